//! Between what is on the wire and what the engine speaks of.

use proto::internal as rpc;
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId, Position, Seq, Uid};

use super::GREATEST;
use crate::{
    archive::LoggedBroadcast,
    engine::{Appended, Durability, LoadedInbox},
    error::Refused,
    model::{CollapseKey, InboxKey, MAX_COLLAPSE_BYTES, State},
};

pub(super) fn key(app: u32, uid: &str) -> Result<InboxKey, Refused> {
    let uid = Uid::new(uid).map_err(|e| Refused::bad("bad_uid", e.to_string()))?;
    Ok(InboxKey::new(AppId(app), uid))
}

pub(super) fn message_id(id: u64) -> Result<MessageId, Refused> {
    match id {
        1..=GREATEST => Ok(MessageId(id)),
        _ => Err(Refused::bad("bad_id", "a message id is between 1 and 2^63 - 1")),
    }
}

pub(super) fn position(p: rpc::Position) -> Position {
    Position { epoch: Epoch(p.epoch), seq: Seq(p.seq) }
}

pub(super) fn unposition(p: Position) -> rpc::Position {
    rpc::Position { epoch: p.epoch.0, seq: p.seq.0 }
}

pub(super) fn durability(d: rpc::Durability) -> Option<Durability> {
    match d {
        rpc::Durability::Unspecified => None,
        rpc::Durability::Fast => Some(Durability::Fast),
        rpc::Durability::Safe => Some(Durability::Safe),
    }
}

/// An offset from UTC; no clock differs by more than a day.
pub(super) fn offset(minutes: i32) -> i16 {
    i16::try_from(minutes.clamp(-1440, 1440)).unwrap_or_default()
}

/// The word for a state, as callers read it.
pub(super) fn word(state: State) -> String {
    match state {
        State::Stored => "stored".to_owned(),
        State::Acked => "acked".to_owned(),
        State::Expired => "expired".to_owned(),
        State::Recalled => "recalled".to_owned(),
        State::InboxFull | State::MaxLoads | State::Replaced => {
            format!("dropped:{}", state.drop_reason().unwrap_or_default())
        }
    }
}

pub(super) fn collapse_key(key: &str) -> Result<Option<CollapseKey>, Refused> {
    match key.len() {
        0 => Ok(None),
        1..=MAX_COLLAPSE_BYTES => Ok(Some(key.into())),
        _ => Err(Refused::bad("bad_collapse_key", "a collapse key has at most 64 bytes")),
    }
}

pub(super) fn cursor(c: rpc::BroadcastCursor) -> Cursor {
    Cursor { epoch: Epoch(c.epoch.min(GREATEST)), bseq: Bseq(c.bseq.min(GREATEST)) }
}

pub(super) fn stored(b: LoggedBroadcast) -> rpc::StoredBroadcast {
    rpc::StoredBroadcast {
        epoch: b.place.epoch.0,
        bseq: b.place.bseq.0,
        id: b.id.0,
        payload: b.payload,
        audience: b.audience,
        accepted_ms: b.accepted_ms,
        expires_ms: b.expires_ms,
        recalled: b.recalled,
        filter: b.filter,
    }
}

pub(super) fn append_result(result: Result<Appended, Refused>) -> rpc::AppendResult {
    match result {
        Ok(done) => rpc::AppendResult {
            positions: done.positions.into_iter().map(unposition).collect(),
            refusal: None,
            repeated: done.repeated,
        },
        Err(e) => rpc::AppendResult { refusal: Some((&e).into()), ..rpc::AppendResult::default() },
    }
}

pub(super) fn load_result(result: Result<LoadedInbox, Refused>) -> rpc::LoadResult {
    let loaded = match result {
        Ok(loaded) => loaded,
        Err(e) => return rpc::LoadResult { refusal: Some((&e).into()), ..rpc::LoadResult::default() },
    };
    let messages = loaded.inbox.messages.into_iter().map(|m| rpc::StoredMessage {
        seq: m.seq.0,
        id: m.id.0,
        payload: m.payload.unwrap_or_default(),
        accepted_ms: m.accepted_ms,
        expires_ms: m.expires_ms,
        collapse_key: m.collapse.map(|key| key.to_string()).unwrap_or_default(),
    });
    rpc::LoadResult {
        start: Some(unposition(loaded.inbox.start)),
        messages: messages.collect(),
        through: loaded.inbox.through.0,
        more: loaded.inbox.more,
        cursor: loaded.cursor.map(|c| rpc::BroadcastCursor { epoch: c.epoch.0, bseq: c.bseq.0 }),
        refusal: None,
        cursor_unknown: loaded.cursor_unknown,
    }
}
