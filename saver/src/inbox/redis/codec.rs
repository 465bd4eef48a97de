//! How inboxes, entries and journal lines are written in Redis. Version 1; another needs other key names.

use bytes::Bytes;
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

use crate::{
    archive::{NewDelivery, Reservation},
    inbox::{Entry, Record},
    model::{CollapseKey, InboxKey, LoadedMessage, Row, State, Surviving},
};

/// What a script can count to.
pub(super) const GREATEST: u64 = (1 << 53) - 1;
/// An entry without its collapse key and its payload: seq, epoch, id, row, end, acceptance (8 bytes each), their sizes (4).
pub(super) const FIXED: usize = 52;
/// What deliveries of one message to many share in the journal: epoch, id, end, acceptance, sizes.
const SHARED: usize = 36;
/// An inbox's name within its partition.
pub(super) fn name(key: &InboxKey) -> Vec<u8> {
    let uid = key.uid().as_str().as_bytes();
    let mut name = Vec::with_capacity(4 + uid.len());
    name.extend_from_slice(&key.app().0.to_be_bytes());
    name.extend_from_slice(uid);
    name
}

/// The inbox of a name.
pub(super) fn key(name: &[u8]) -> Option<InboxKey> {
    let (app, uid) = name.split_first_chunk::<4>()?;
    let uid = Uid::new(std::str::from_utf8(uid).ok()?).ok()?;
    Some(InboxKey::new(AppId(u32::from_be_bytes(*app)), uid))
}

/// What the append script takes for a delivery, and with `row` false for what all deliveries of a message share; `apart` says
/// that its payload is kept once for all of them.
pub(super) fn body(entry: &Entry, row: bool, apart: bool) -> Vec<u8> {
    let s = &entry.staging;
    let key = s.collapse.as_deref().unwrap_or_default();
    let mut body = Vec::with_capacity(5 + FIXED - 16 + key.len() + s.payload.len());
    body.extend_from_slice(&u32::try_from(s.cap).unwrap_or(u32::MAX).to_be_bytes());
    body.push(u8::from(entry.multicast) | u8::from(entry.checked) << 1 | u8::from(apart) << 2);
    body.extend_from_slice(&s.id.0.to_be_bytes());
    if row {
        body.extend_from_slice(&s.row.0.to_be_bytes());
    }
    body.extend_from_slice(&s.expires_ms.to_be_bytes());
    body.extend_from_slice(&s.accepted_ms.to_be_bytes());
    body.extend_from_slice(&sizes(key, s.payload.len()));
    body.extend_from_slice(key.as_bytes());
    body.extend_from_slice(&s.payload);
    body
}

/// Whether both are deliveries of one message to many, and can share a body.
pub(super) fn alike(a: &Entry, b: &Entry) -> bool {
    let (s, t) = (&a.staging, &b.staging);
    a.multicast
        && b.multicast
        && a.checked == b.checked
        && (s.id, s.cap, s.expires_ms, s.accepted_ms) == (t.id, t.cap, t.expires_ms, t.accepted_ms)
        && s.collapse == t.collapse
        && s.payload == t.payload
}

/// An entry without payload, for a rebuild.
pub(super) fn surviving(s: &Surviving) -> Vec<u8> {
    let key = s.collapse.as_deref().unwrap_or_default();
    let mut entry = Vec::with_capacity(FIXED + key.len());
    entry.extend_from_slice(&position(s.birth));
    entry.extend_from_slice(&s.id.0.to_be_bytes());
    entry.extend_from_slice(&s.row.0.to_be_bytes());
    entry.extend_from_slice(&s.expires_ms.to_be_bytes());
    entry.extend_from_slice(&s.accepted_ms.to_be_bytes());
    entry.extend_from_slice(&sizes(key, s.payload_bytes as usize));
    entry.extend_from_slice(key.as_bytes());
    entry
}

/// Bits of the payload's size; those above are the collapse key's. Callers send 16 MiB at most, and keys of 64 bytes.
const SIZE_BITS: u32 = 25;

/// The sizes of a collapse key and of a payload.
fn sizes(key: &str, payload: usize) -> [u8; 4] {
    let payload = u32::try_from(payload).unwrap_or(u32::MAX).min((1 << SIZE_BITS) - 1);
    let key = u32::try_from(key.len()).unwrap_or(0) << SIZE_BITS;
    (key | payload).to_be_bytes()
}

/// Epoch and number, in the order of entries: number, epoch.
fn position(p: Position) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&p.seq.0.to_be_bytes());
    out[8..].copy_from_slice(&p.epoch.0.to_be_bytes());
    out
}

/// Epoch and number, in the order that scripts take positions in. Both stay within what a script can count.
pub(super) fn asked(p: Position) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&p.epoch.0.min(GREATEST).to_be_bytes());
    out[8..].copy_from_slice(&p.seq.0.min(GREATEST).to_be_bytes());
    out
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The fixed part of an entry.
struct Fixed {
    birth: Position,
    id: MessageId,
    row: Row,
    expires_ms: u64,
    accepted_ms: u64,
    size: u32,
    collapse: Option<CollapseKey>,
}

fn fixed(entry: &[u8]) -> Option<Fixed> {
    let sizes = u32::from_be_bytes(*entry.get(48..)?.first_chunk()?);
    let key = (sizes >> SIZE_BITS) as usize;
    let collapse = match key {
        0 => None,
        _ => Some(std::str::from_utf8(entry.get(FIXED..FIXED + key)?).ok()?.into()),
    };
    Some(Fixed {
        birth: Position { seq: Seq(u64_at(entry, 0)?), epoch: Epoch(u64_at(entry, 8)?) },
        id: MessageId(u64_at(entry, 16)?),
        row: Row(u64_at(entry, 24)?.cast_signed()),
        expires_ms: u64_at(entry, 32)?,
        accepted_ms: u64_at(entry, 40)?,
        size: sizes & ((1 << SIZE_BITS) - 1),
        collapse,
    })
}

/// The payload, if the entry has it. It shares the answer's memory.
fn payload(entry: &Bytes, fixed: &Fixed) -> Option<Bytes> {
    let start = FIXED + fixed.collapse.as_deref().map_or(0, str::len);
    (entry.len() == start + fixed.size as usize).then(|| entry.slice(start..))
}

/// An entry as a reader gets it.
pub(super) fn loaded(entry: Vec<u8>) -> Option<LoadedMessage> {
    let fixed = fixed(&entry)?;
    Some(LoadedMessage {
        seq: fixed.birth.seq,
        id: fixed.id,
        payload: payload(&entry.into(), &fixed),
        accepted_ms: fixed.accepted_ms,
        expires_ms: fixed.expires_ms,
        collapse: fixed.collapse,
    })
}

/// An idempotency key's name within its partition.
pub(super) fn word(r: &Reservation) -> Vec<u8> {
    let mut name = Vec::with_capacity(4 + r.word.len());
    name.extend_from_slice(&r.app.0.to_be_bytes());
    name.extend_from_slice(r.word.as_bytes());
    name
}

/// What an idempotency key is tied to.
pub(super) fn tied_to(r: &Reservation) -> Vec<u8> {
    let mut value = Vec::with_capacity(16 + r.fingerprint.len());
    value.extend_from_slice(&r.id.0.to_be_bytes());
    value.extend_from_slice(&r.expires_ms.min(GREATEST).to_be_bytes());
    value.extend_from_slice(&r.fingerprint);
    value
}

/// An idempotency key from its name and what it is tied to.
pub(super) fn reservation(name: &[u8], value: &[u8]) -> Option<Reservation> {
    let (app, word) = name.split_first_chunk::<4>()?;
    Some(Reservation {
        app: AppId(u32::from_be_bytes(*app)),
        word: std::str::from_utf8(word).ok()?.to_owned(),
        id: MessageId(u64_at(value, 0)?),
        fingerprint: Bytes::copy_from_slice(value.get(16..)?),
        expires_ms: u64_at(value, 8)?,
    })
}

/// Deliveries of one message to many: what they share, as in an entry without its number and row, the payload among it, and
/// then of each the length of its name, the name, its number and its row. The payload is told once.
fn many(value: &Bytes, out: &mut Vec<Record>) -> Option<()> {
    let sizes = u32::from_be_bytes(*value.get(32..)?.first_chunk()?);
    let (key_end, size) = (SHARED + (sizes >> SIZE_BITS) as usize, sizes & ((1 << SIZE_BITS) - 1));
    let collapse = match value.get(SHARED..key_end)? {
        [] => None,
        key => Some(CollapseKey::from(std::str::from_utf8(key).ok()?)),
    };
    let told = key_end + size as usize;
    let mut rest = value.get(told..)?;
    let mut payload = Some(value.slice(key_end..told));
    while let Some((length, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let delivery = NewDelivery {
            row: Row(u64_at(after, 8)?.cast_signed()),
            id: MessageId(u64_at(value, 8)?),
            key: key(name)?,
            position: Position { seq: Seq(u64_at(after, 0)?), epoch: Epoch(u64_at(value, 0)?) },
            accepted_ms: u64_at(value, 24)?,
            expires_ms: u64_at(value, 16)?,
            payload_bytes: size,
            collapse: collapse.clone(),
        };
        out.push(Record::Appended(delivery, payload.take()));
        rest = after.get(16..)?;
    }
    Some(())
}

/// Lines of the journal from a field of it.
pub(super) fn records(field: &[u8], value: Vec<u8>, out: &mut Vec<Record>) -> Option<()> {
    let (kind, rest) = field.split_first()?;
    match kind {
        b'A' if rest.is_empty() => return many(&value.into(), out),
        // The second is a delivery of a message whose payload came before it, as earlier versions wrote them.
        b'A' | b'a' => {
            let fixed = fixed(&value)?;
            let payload = (*kind == b'A').then(|| payload(&value.into(), &fixed)).flatten();
            let delivery = NewDelivery {
                row: fixed.row,
                id: fixed.id,
                key: key(rest)?,
                position: fixed.birth,
                accepted_ms: fixed.accepted_ms,
                expires_ms: fixed.expires_ms,
                payload_bytes: fixed.size,
                collapse: fixed.collapse,
            };
            out.push(Record::Appended(delivery, payload));
        }
        b'W' => out.push(Record::Reserved(reservation(rest, &value)?)),
        b'F' => {
            let state = State::from_number(std::str::from_utf8(rest).ok()?.parse().ok()?)?;
            let rows = value.chunks_exact(8).filter_map(|row| row.first_chunk().copied());
            out.extend(rows.map(|row| Record::Finished(Row(i64::from_be_bytes(row)), state)));
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the append script writes of a message to many.
    fn field(receivers: &[(&[u8], u64, i64)]) -> Vec<u8> {
        let mut value = Vec::new();
        for number in [7, 11, 3_000, 1_000] {
            value.extend_from_slice(&u64::to_be_bytes(number));
        }
        value.extend_from_slice(&sizes("k", 5));
        value.extend_from_slice(b"khello");
        for (name, seq, row) in receivers {
            value.push(u8::try_from(name.len()).unwrap());
            value.extend_from_slice(name);
            value.extend_from_slice(&seq.to_be_bytes());
            value.extend_from_slice(&row.to_be_bytes());
        }
        value
    }

    #[test]
    fn deliveries_to_many_are_one_field() {
        let value = field(&[(b"\0\0\0\x01alice", 21, -1), (b"\0\0\0\x01bob", 22, -2)]);
        let mut read = Vec::new();
        records(b"A", value.clone(), &mut read).unwrap();
        let delivery = |uid: &str, seq, row| NewDelivery {
            row: Row(row),
            id: MessageId(11),
            key: InboxKey::new(AppId(1), Uid::new(uid).unwrap()),
            position: Position { epoch: Epoch(7), seq: Seq(seq) },
            accepted_ms: 1_000,
            expires_ms: 3_000,
            payload_bytes: 5,
            collapse: Some("k".into()),
        };
        let payload = Some(Bytes::from_static(b"hello"));
        let expected = [
            Record::Appended(delivery("alice", 21, -1), payload),
            Record::Appended(delivery("bob", 22, -2), None),
        ];
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        // A field that is cut is no journal, wherever it is cut but between two deliveries.
        let whole = [value.len(), value.len() - 24, field(&[]).len()];
        for end in (0..value.len()).filter(|end| !whole.contains(end)) {
            assert!(records(b"A", value[..end].to_vec(), &mut Vec::new()).is_none(), "{end}");
        }
    }
}
