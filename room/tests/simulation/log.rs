//! One app's broadcast log, as the saver has it and as the room's keeper follows it.

use std::sync::Arc;

use audience::Slice;
use room::exchange::{Body, Credit, Fate, LogEntry, LogRun};
use wire::{
    codec::encode_broadcast,
    frame::Broadcast,
    id::{AppId, Cursor, Epoch, MessageId, Uid},
};

#[derive(Debug)]
pub(crate) struct Log {
    app: AppId,
    pub(crate) head: u64,
    entries: Vec<Arc<LogEntry>>,
    /// How far each room's keeper has come; none has begun as long as nobody of the app is there.
    pub(crate) kept: Vec<Option<u64>>,
}

impl Log {
    pub(crate) fn new(app: AppId, rooms: usize) -> Self {
        Self { app, head: 0, entries: Vec::new(), kept: vec![None; rooms] }
    }

    /// Stores one, or a slice of one; some numbers hold nothing.
    pub(crate) fn append(&mut self, id: u64, audience: &str, slice: Slice, expires_ms: u64, skip: u64) {
        self.head += 1 + skip;
        let (app, payload, accepted_ms) = (self.app, super::inbox::payload(id), 1);
        let frame =
            Broadcast { app: app.0, bseq: self.head, id, payload: payload.clone(), accepted_ms, binding: 0 };
        let (frame, audience) = (encode_broadcast(&frame), audience.parse().unwrap());
        let mut entry = LogEntry::whole(self.head, MessageId(id), frame, audience, expires_ms);
        if !slice.is_whole() {
            (entry.slice, entry.body) = (slice, Body::Parts { app, payload, accepted_ms });
            // Slices that came by different ways do not know that they are for the same.
            let before =
                self.entries.iter().rev().find(|before| before.id == entry.id && !id.is_multiple_of(3));
            entry.meant = before.map_or(entry.meant, |before| Arc::clone(&before.meant));
        }
        self.entries.push(Arc::new(entry));
    }

    /// Whether an entry is meant for a user with these tags.
    pub(crate) fn is_meant(&self, entry: &LogEntry, uid: &Uid, tags: &[String]) -> bool {
        entry.slice.contains(audience::place(self.app.0, uid))
            && entry.meant.audience.matches(|tag| tags.iter().any(|own| own == tag))
    }

    /// What is in (after, through], at most `most` entries.
    pub(crate) fn run(&self, after: u64, most: usize) -> LogRun {
        let rest: Vec<_> = self.entries.iter().filter(|entry| entry.bseq > after).collect();
        let some = &rest[..rest.len().min(most)];
        let through = if rest.len() > most { some[most - 1].bseq } else { self.head };
        LogRun {
            app: self.app,
            epoch: 1,
            after,
            through: through.max(after),
            entries: some.iter().map(|entry| Arc::clone(entry)).collect(),
        }
    }

    /// What is meant for a user who has these tags.
    pub(crate) fn meant_for(&self, uid: &Uid, tags: &[String]) -> Meant {
        let is_meant = |entry: &&Arc<LogEntry>| self.is_meant(entry, uid, tags);
        Meant(self.entries.iter().filter(is_meant).cloned().collect())
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter().map(|entry| &**entry)
    }

    pub(crate) fn cursor(&self, bseq: u64) -> Cursor {
        Cursor { epoch: Epoch(1), bseq: bseq.into() }
    }
}

/// Broadcasts that are meant for a user.
pub(crate) struct Meant(Vec<Arc<LogEntry>>);

impl Meant {
    /// A device has them all.
    pub(crate) fn acked(&self, after: Cursor, through: Cursor) -> Vec<Credit> {
        self.within(after, through).map(|entry| credit(entry, Fate::Acked)).collect()
    }

    /// Those that are over, up to the first that is not.
    pub(crate) fn over(&self, after: Cursor, through: Cursor, unix_ms: u64) -> Vec<Credit> {
        let over = self.within(after, through).take_while(|entry| entry.is_dead(unix_ms));
        over.map(|entry| credit(entry, Fate::Expired)).collect()
    }

    fn within(&self, after: Cursor, through: Cursor) -> impl Iterator<Item = &LogEntry> {
        let within = move |bseq: u64| after.bseq.0 < bseq && bseq <= through.bseq.0;
        self.0.iter().map(|entry| &**entry).filter(move |entry| within(entry.bseq))
    }
}

fn credit(entry: &LogEntry, fate: Fate) -> Credit {
    Credit { bseq: entry.bseq, id: entry.id, fate }
}
