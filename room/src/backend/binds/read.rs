//! Reading the first page of an inbox, and finding where the broadcasts go on.

use peers::PeerError;
use proto::internal as rpc;
use wire::id::{AppId, Bseq, Cursor, Epoch};

use crate::{
    backend::{BackendLimits, broadcasts::credits::Stand, inboxes},
    exchange::{BindAsk, LoadDone},
};

/// What a bind has found.
pub(super) struct Read {
    pub(super) inbox: LoadDone,
    /// As the saver has it.
    pub(super) saved: Cursor,
    /// Where the device's broadcasts go on.
    pub(super) cursor: Cursor,
    /// The log's head.
    pub(super) log: Cursor,
}

impl Read {
    pub(super) fn stand(&self) -> Stand {
        Stand { saved: self.saved, cursor: self.cursor, head: self.log }
    }
}

/// What the saver is asked for.
pub(super) fn load_item(limits: &BackendLimits, app: AppId, ask: &BindAsk) -> rpc::LoadItem {
    rpc::LoadItem {
        app: app.0,
        uid: ask.uid.as_str().to_owned(),
        after: ask.inbox.map(inboxes::position),
        acknowledges: ask.inbox.is_some(),
        bind: true,
        max_messages: limits.page_messages,
        max_bytes: limits.page_bytes,
        own_cursor: ask.broadcasts.map(|own| rpc::BroadcastCursor { epoch: own.epoch.0, bseq: own.bseq.0 }),
        // Of a device that does not tell, what the user's last one told still holds.
        utc_offset_min: ask.device.offset.minutes(),
    }
}

/// The head of the log has to be known at least up to here.
pub(super) fn wanted(ask: &BindAsk) -> u64 {
    ask.broadcasts.map_or(0, |cursor| cursor.bseq.0)
}

/// What the saver's answer comes to, beside a log with this head.
///
/// # Errors
/// Nothing says how far the user is in the log.
pub(super) fn place(mut result: rpc::LoadResult, log: Cursor, ask: &BindAsk) -> Result<Read, PeerError> {
    if result.cursor_unknown {
        // Nothing says how far the user is but the device itself, and that is believed only about this log.
        let own = ask.broadcasts.filter(|own| own.epoch == log.epoch && own.bseq <= log.bseq);
        let own = own.ok_or_else(|| PeerError::Unavailable {
            role: cluster::Role::Saver,
            node: None,
            detail: "the archive has the user's broadcast cursor".into(),
        })?;
        let saved = Cursor { bseq: Bseq(0), ..log };
        return Ok(Read { inbox: inboxes::page(result), saved, cursor: own, log });
    }
    let saved = result
        .cursor
        .take()
        .map_or(log, |cursor| Cursor { epoch: Epoch(cursor.epoch), bseq: Bseq(cursor.bseq) });
    // The device's own cursor wins if it is further: it has seen what the saver has not been told. One that is ahead of
    // the log, or of another log, is not believed.
    let cursor = ask
        .broadcasts
        .filter(|own| own.epoch == log.epoch && own.bseq >= saved.bseq && own.bseq <= log.bseq)
        .unwrap_or(saved);
    Ok(Read { inbox: inboxes::page(result), saved, cursor, log })
}
