//! One user's inbox, as the saver has it.

use bytes::Bytes;
use room::exchange::{LoadDone, StoredMessage};
use wire::id::{Epoch, MessageId, Position, Seq};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The epoch in which it was stored.
    birth: u64,
    pub(crate) seq: u64,
    pub(crate) id: u64,
    pub(crate) stored_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { epoch: 1, last: 0, entries: Vec::new() }
    }

    pub(crate) fn append(&mut self, id: u64, stored_ms: u64) -> Entry {
        self.last += 1;
        let entry = Entry { birth: self.epoch, seq: self.last, id, stored_ms };
        self.entries.push(entry);
        entry
    }

    /// Takes away what an ack covers and gives the ids.
    pub(crate) fn ack(&mut self, at: Position) -> Vec<u64> {
        let covered = |entry: &Entry| entry.birth <= at.epoch.0 && entry.seq <= at.seq.0;
        let acked = self.entries.iter().filter(|entry| covered(entry)).map(|entry| entry.id).collect();
        self.entries.retain(|entry| !covered(entry));
        acked
    }

    /// The store is lost and rebuilt: a new epoch; numbers at the end that nothing holds any more are used again.
    pub(crate) fn rebuild(&mut self) {
        self.epoch += 1;
        self.last = self.entries.last().map_or(0, |entry| entry.seq);
    }

    /// A page after `after`; without it, of everything there is.
    pub(crate) fn load(&self, after: Option<Position>, page: usize) -> LoadDone {
        let covered = |entry: &Entry, at: Position| entry.birth <= at.epoch.0 && entry.seq <= at.seq.0;
        let start = match after {
            Some(at) if at.epoch.0 == self.epoch => at.seq.0.min(self.last),
            Some(at) if at.epoch.0 < self.epoch => {
                let first = self.entries.iter().find(|entry| !covered(entry, at));
                first.map_or(self.last, |entry| entry.seq - 1)
            }
            _ => self.entries.first().map_or(self.last, |entry| entry.seq - 1),
        };
        let rest: Vec<&Entry> = self.entries.iter().filter(|entry| entry.seq > start).collect();
        let some = &rest[..rest.len().min(page)];
        let more = rest.len() > page;
        LoadDone {
            start: Position { epoch: Epoch(self.epoch), seq: Seq(start) },
            messages: some.iter().map(|entry| message(entry)).collect(),
            through: if more { some[page - 1].seq } else { self.last.max(start) },
            more,
        }
    }
}

/// The payload says which message it is, in lengths that differ.
pub(crate) fn payload(id: u64) -> Bytes {
    let width = (id * 37 % 120) as usize;
    format!("{id:width$}").into()
}

pub(crate) fn message(entry: &Entry) -> StoredMessage {
    StoredMessage {
        seq: entry.seq,
        id: MessageId(entry.id),
        payload: payload(entry.id),
        accepted_ms: 1,
        collapse_key: "".into(),
    }
}
