//! Sessions as bytes in slabs, one slab for each length of uid.
//!
//! A register holds tens of millions of sessions, so what a session costs decides what a register costs. A
//! record is 32 bytes plus the uid rounded up to 8, in chunks that no allocator header and no spare capacity
//! is added to; the table above it holds 4 bytes a session. A `String` key and a struct would cost twice that.

use wire::limits::MAX_UID_BYTES;

/// Bytes before the uid.
const HEAD: usize = 32;
/// Lengths of uids are rounded up to this, so that there are few slabs and every record stays aligned.
const STEP: usize = 8;
const CLASSES: usize = MAX_UID_BYTES / STEP;
/// Slots in a chunk: 2.5 to 10 KiB, so that an almost empty slab wastes little and growing copies nothing.
const CHUNK: u32 = 64;
/// A reference has 4 bits of class and 28 of slot: 268 million records of a class in each shard.
const SLOT_BITS: u32 = 28;
const NO_SLOT: u32 = (1 << SLOT_BITS) - 1;

/// What is known of a session besides its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) conn: u64,
    pub(crate) fence: u64,
    pub(crate) since_ms: u64,
    /// Index into the shard's homes.
    pub(crate) home: u16,
}

/// Where a record is. Valid until the record is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRef(u32);

impl RecordRef {
    fn new(class: usize, slot: u32) -> RecordRef {
        RecordRef((class as u32) << SLOT_BITS | slot)
    }
    fn class(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }
    fn slot(self) -> u32 {
        self.0 & NO_SLOT
    }
}

/// All records of one shard.
#[derive(Debug)]
pub(crate) struct Records {
    slabs: [Slab; CLASSES],
}

#[derive(Debug)]
struct Slab {
    record: usize,
    chunks: Vec<Box<[u8]>>,
    /// Slots that have ever been used; the rest of the last chunk is fresh.
    used: u32,
    /// Head of the list of freed slots, each of which holds the next one.
    free: u32,
}

impl Records {
    pub(crate) fn new() -> Records {
        let slab =
            |class| Slab { record: HEAD + (class + 1) * STEP, chunks: Vec::new(), used: 0, free: NO_SLOT };
        Records { slabs: std::array::from_fn(slab) }
    }

    /// Keeps a session. None when the slab is at its bound of slots.
    pub(crate) fn insert(&mut self, app: u32, uid: &str, session: &Session) -> Option<RecordRef> {
        debug_assert!((1..=MAX_UID_BYTES).contains(&uid.len()), "uids are parsed at the edge");
        let class = (uid.len() - 1) / STEP;
        let slot = self.slabs[class].take()?;
        let bytes = self.slabs[class].bytes_mut(slot);
        bytes[24..28].copy_from_slice(&app.to_le_bytes());
        bytes[30] = uid.len() as u8;
        bytes[HEAD..HEAD + uid.len()].copy_from_slice(uid.as_bytes());
        let at = RecordRef::new(class, slot);
        self.update(at, session);
        Some(at)
    }

    /// Replaces the session of a record; its key stays.
    pub(crate) fn update(&mut self, at: RecordRef, session: &Session) {
        let bytes = self.slabs[at.class()].bytes_mut(at.slot());
        bytes[0..8].copy_from_slice(&session.conn.to_le_bytes());
        bytes[8..16].copy_from_slice(&session.fence.to_le_bytes());
        bytes[16..24].copy_from_slice(&session.since_ms.to_le_bytes());
        bytes[28..30].copy_from_slice(&session.home.to_le_bytes());
    }

    pub(crate) fn remove(&mut self, at: RecordRef) {
        self.slabs[at.class()].give(at.slot());
    }

    pub(crate) fn key(&self, at: RecordRef) -> (u32, &[u8]) {
        let bytes = self.slabs[at.class()].bytes(at.slot());
        (u32::from_le_bytes(field(bytes, 24)), &bytes[HEAD..HEAD + usize::from(bytes[30])])
    }

    pub(crate) fn session(&self, at: RecordRef) -> Session {
        let bytes = self.slabs[at.class()].bytes(at.slot());
        Session {
            conn: u64::from_le_bytes(field(bytes, 0)),
            fence: u64::from_le_bytes(field(bytes, 8)),
            since_ms: u64::from_le_bytes(field(bytes, 16)),
            home: u16::from_le_bytes(field(bytes, 28)),
        }
    }

    /// Bytes that the chunks take.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.slabs.iter().map(|slab| slab.chunks.len() * slab.record * CHUNK as usize).sum()
    }
}

impl Slab {
    fn take(&mut self) -> Option<u32> {
        if self.free != NO_SLOT {
            let slot = self.free;
            self.free = u32::from_le_bytes(field(self.bytes(slot), 0));
            return Some(slot);
        }
        if self.used == NO_SLOT {
            return None;
        }
        let slot = self.used;
        if slot.is_multiple_of(CHUNK) {
            self.chunks.push(vec![0; self.record * CHUNK as usize].into_boxed_slice());
        }
        self.used += 1;
        Some(slot)
    }

    fn give(&mut self, slot: u32) {
        let next = self.free;
        self.bytes_mut(slot)[0..4].copy_from_slice(&next.to_le_bytes());
        self.free = slot;
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        let start = (slot % CHUNK) as usize * self.record;
        &self.chunks[(slot / CHUNK) as usize][start..start + self.record]
    }

    fn bytes_mut(&mut self, slot: u32) -> &mut [u8] {
        let start = (slot % CHUNK) as usize * self.record;
        &mut self.chunks[(slot / CHUNK) as usize][start..start + self.record]
    }
}

fn field<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[start..start + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u64) -> Session {
        Session { conn: n, fence: n << 32 | 7, since_ms: n * 1000, home: n as u16 }
    }

    #[test]
    fn every_length_of_uid_comes_back_as_it_went_in() {
        let mut records = Records::new();
        let refs: Vec<_> = (1..=MAX_UID_BYTES)
            .map(|len| {
                records.insert(len as u32, &"u".repeat(len), &session(len as u64)).expect("a slot is free")
            })
            .collect();
        for (len, at) in (1..=MAX_UID_BYTES).zip(refs) {
            assert_eq!(records.key(at), (len as u32, "u".repeat(len).as_bytes()));
            assert_eq!(records.session(at), session(len as u64));
        }
    }

    #[test]
    fn freed_slots_are_used_before_fresh_ones() {
        let mut records = Records::new();
        let refs: Vec<_> = (0..200)
            .map(|n| records.insert(1, &format!("user-{n:03}"), &session(n)).expect("a slot"))
            .collect();
        let before = records.allocated_bytes();
        for at in refs.iter().step_by(2) {
            records.remove(*at);
        }
        for n in 200..300 {
            records.insert(1, &format!("user-{n}"), &session(n)).expect("a slot");
        }
        assert_eq!(records.allocated_bytes(), before);
        assert_eq!(records.session(refs[1]), session(1), "what was not removed stays");
    }
}
