//! One inbox in memory: a plain state machine over its entries.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::id::{Epoch, MessageId, Position, Seq};

use crate::{
    inbox::Waiting,
    model::{
        CollapseKey, Finished, InboxKey, Loaded, LoadedMessage, Read, Row, Staging, State, Surviving, covers,
    },
};

/// A message in an inbox: 104 bytes, and its payload if that is held.
#[derive(Debug)]
struct Entry {
    birth: Position,
    row: Row,
    id: MessageId,
    accepted_ms: u64,
    expires_ms: u64,
    payload: Option<Bytes>,
    payload_bytes: u32,
    loads: u32,
    collapse: Option<CollapseKey>,
}

/// What removing or adding entries did to the shard's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) messages: usize,
    pub(super) payload_bytes: usize,
}

/// An inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) key: InboxKey,
    /// Last number given.
    last: u64,
    /// Last number that readers see.
    visible: u64,
    /// Everything up to here is pushed out once the batch that does so is published.
    doomed: u64,
    /// Numbers that leave once another one is published, which takes their place. No more than a batch has deliveries.
    replaced: Vec<Replaced>,
    entries: VecDeque<Entry>,
    /// Staged deliveries, and finished ones that the archive has not heard of: while there are any, a rebuild from
    /// the archive would differ, so the inbox must stay.
    pins: u32,
    /// Last use, coarse seconds.
    pub(super) touched_s: u32,
    /// Used since the clock's hand came by.
    pub(super) used: bool,
    /// In the shard's watch queue.
    pub(super) watched: bool,
}

/// A number, and the staged one that takes its place.
#[derive(Debug)]
struct Replaced {
    old: u64,
    by: u64,
}

impl Inbox {
    /// An inbox as the archive has it. `floor` is a number that no earlier life of it in this epoch has passed.
    pub(super) fn rebuilt(key: InboxKey, surviving: Vec<Surviving>, floor: u64, now_ms: u64) -> Self {
        let last = surviving.last().map_or(0, |s| s.birth.seq.0).max(floor);
        let entries = surviving
            .into_iter()
            .filter(|s| s.expires_ms > now_ms)
            .map(|s| Entry {
                birth: s.birth,
                row: s.row,
                id: s.id,
                accepted_ms: s.accepted_ms,
                expires_ms: s.expires_ms,
                payload: None,
                payload_bytes: s.payload_bytes,
                loads: 0,
                collapse: s.collapse,
            })
            .collect();
        Self {
            key,
            last,
            visible: last,
            doomed: 0,
            replaced: Vec::new(),
            entries,
            pins: 0,
            touched_s: 0,
            used: true,
            watched: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins > 0
    }

    pub(super) fn pin(&mut self) {
        self.pins += 1;
    }

    pub(super) fn unpin(&mut self) {
        self.pins = self.pins.saturating_sub(1);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.entries.iter().filter_map(|e| e.payload.as_ref()).map(Bytes::len).sum()
    }

    /// Numbers a delivery and tells what leaves for it.
    pub(super) fn stage(
        &mut self,
        item: &Staging,
        epoch: Epoch,
        hold_payload: bool,
    ) -> (Position, Vec<(Row, State)>) {
        let mut leaving = Vec::new();
        if let Some(key) = &item.collapse {
            leaving.extend(self.replace(key, self.last + 1));
        }
        self.last += 1;
        self.pins += 1;
        let position = Position { epoch, seq: Seq(self.last) };
        if self.entries.capacity() == 0 {
            // Most inboxes hold one message for a moment; a first growth by itself would make room for four.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(Entry {
            birth: position,
            row: item.row,
            id: item.id,
            accepted_ms: item.accepted_ms,
            expires_ms: item.expires_ms,
            payload_bytes: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
            payload: hold_payload.then(|| item.payload.clone()),
            loads: 0,
            collapse: item.collapse.clone(),
        });
        let (cap, mut oldest) = (item.cap.max(1), self.after(self.doomed));
        if self.entries.len() - oldest <= cap {
            return (position, leaving);
        }
        let mut live = self.entries.range(oldest..).filter(|e| !self.is_replaced(e)).count();
        while live > cap {
            let entry = &self.entries[oldest];
            let (row, replaced) = (entry.row, self.is_replaced(entry));
            self.doomed = entry.birth.seq.0;
            oldest += 1;
            if !replaced {
                leaving.push((row, State::InboxFull));
                live -= 1;
            }
        }
        (position, leaving)
    }

    /// What a delivery with this key takes the place of: the newest with the same, because that has taken the place of
    /// those before.
    fn replace(&mut self, key: &CollapseKey, by: u64) -> Option<(Row, State)> {
        let live = self.entries.range(self.after(self.doomed)..);
        let entry = live.rev().find(|e| e.collapse.as_ref() == Some(key))?;
        self.replaced.push(Replaced { old: entry.birth.seq.0, by });
        Some((entry.row, State::Replaced))
    }

    fn is_replaced(&self, entry: &Entry) -> bool {
        self.replaced.iter().any(|r| r.old == entry.birth.seq.0)
    }

    /// The archive has a staged delivery.
    pub(super) fn publish(&mut self, seq: Seq) -> Tally {
        self.visible = self.visible.max(seq.0);
        self.unpin();
        let mut gone = Tally::default();
        while self.entries.front().is_some_and(|e| e.birth.seq.0 <= self.doomed) {
            gone.add(self.entries.pop_front());
        }
        self.settle_replaced(seq, |inbox, old| gone.add(inbox.take(old)));
        gone
    }

    /// Does something with what `by` takes the place of, and forgets that it does.
    fn settle_replaced(&mut self, by: Seq, mut settle: impl FnMut(&mut Self, Seq)) {
        while let Some(n) = self.replaced.iter().position(|r| r.by == by.0) {
            let old = self.replaced.swap_remove(n).old;
            settle(self, Seq(old));
        }
        if self.replaced.is_empty() && self.replaced.capacity() > 0 {
            self.replaced = Vec::new();
        }
    }

    /// Takes a number out, if it is there.
    fn take(&mut self, seq: Seq) -> Option<Entry> {
        let index = self.entries.binary_search_by_key(&seq, |e| e.birth.seq).ok()?;
        self.entries.remove(index)
    }

    /// The archive does not have a staged delivery.
    pub(super) fn withdraw(&mut self, seq: Seq) -> Tally {
        self.unpin();
        // What was to be pushed out stays. Entries doomed by published batches are gone already.
        self.doomed = 0;
        self.settle_replaced(seq, |_, _| ());
        let mut gone = Tally::default();
        gone.add(self.take(seq));
        gone
    }

    /// Takes out the front that `position` covers.
    pub(super) fn ack(&mut self, position: Position, out: &mut Vec<Finished>) -> Tally {
        let mut gone = Tally::default();
        while self.entries.front().is_some_and(|e| self.sees(e) && covers(position, e.birth)) {
            let entry = self.entries.pop_front();
            self.finish(entry, State::Acked, out, &mut gone);
        }
        self.shrink();
        gone
    }

    /// Reads on from a position.
    pub(super) fn load(&mut self, read: Read, epoch: Epoch, max_loads: u32, now_ms: u64) -> (Loaded, Tally) {
        let mut finished = Vec::new();
        let mut gone = Tally::default();
        // A position of an epoch that has not been yet says nothing.
        let after = read.after.filter(|p| p.epoch <= epoch);
        if let (Some(position), true) = (after, read.acknowledges) {
            gone += self.ack(position, &mut finished);
        }
        while self.entries.front().is_some_and(|e| self.sees(e) && e.expires_ms <= now_ms) {
            let entry = self.entries.pop_front();
            self.finish(entry, State::Expired, &mut finished, &mut gone);
        }
        let start = self.translate(after, epoch);
        let mut loaded = Loaded {
            start: Position { epoch, seq: Seq(start) },
            through: Seq(self.visible),
            ..Loaded::default()
        };
        let mut bytes = 0;
        let mut index = self.after(start);
        while let Some(entry) = self.entries.get_mut(index) {
            if entry.birth.seq.0 > self.visible {
                break;
            }
            let over = if entry.expires_ms <= now_ms {
                Some(State::Expired)
            } else if entry.loads >= max_loads {
                Some(State::MaxLoads)
            } else {
                None
            };
            if let Some(state) = over {
                let entry = self.entries.remove(index);
                self.finish(entry, state, &mut finished, &mut gone);
                continue;
            }
            bytes += entry.payload_bytes as usize;
            let full = loaded.messages.len() >= read.max_messages.max(1)
                || (bytes > read.max_bytes && !loaded.messages.is_empty());
            if full {
                loaded.more = true;
                loaded.through = loaded.messages.last().map_or(Seq(start), |m| m.seq);
                break;
            }
            entry.loads += 1;
            loaded.messages.push(LoadedMessage {
                seq: entry.birth.seq,
                id: entry.id,
                payload: entry.payload.clone(),
                accepted_ms: entry.accepted_ms,
                expires_ms: entry.expires_ms,
                collapse: entry.collapse.clone(),
            });
            index += 1;
        }
        self.shrink();
        loaded.finished = finished;
        (loaded, gone)
    }

    /// Takes one message out.
    pub(super) fn recall(&mut self, id: MessageId) -> (Option<Finished>, Tally) {
        let (mut out, mut gone) = (Vec::new(), Tally::default());
        if let Some(index) = self.entries.iter().position(|e| e.id == id && self.sees(e)) {
            let entry = self.entries.remove(index);
            self.finish(entry, State::Recalled, &mut out, &mut gone);
        }
        self.shrink();
        (out.pop(), gone)
    }

    pub(super) fn depth(&self, now_ms: u64) -> u64 {
        self.entries.iter().filter(|e| self.sees(e) && e.expires_ms > now_ms).count() as u64
    }

    /// When the oldest message came, if there is one.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.entries.front().filter(|e| self.sees(e)).map(|e| e.accepted_ms)
    }

    pub(super) fn waiting(&self, epoch: Epoch, now_ms: u64) -> Option<Waiting> {
        let newest = self.entries.iter().rev().find(|e| self.sees(e) && e.expires_ms > now_ms)?;
        Some(Waiting { reaches: Position { epoch, seq: newest.birth.seq }, id: newest.id })
    }

    /// The greatest number such that nothing up to it is left for who stands at `after`.
    fn translate(&self, after: Option<Position>, epoch: Epoch) -> u64 {
        match after {
            Some(p) if p.epoch == epoch => p.seq.0.min(self.visible),
            _ => {
                let left = |e: &&Entry| self.sees(e) && after.is_none_or(|p| !covers(p, e.birth));
                self.entries.iter().find(left).map_or(self.visible, |e| e.birth.seq.0 - 1)
            }
        }
    }

    fn sees(&self, entry: &Entry) -> bool {
        entry.birth.seq.0 <= self.visible
    }

    /// Index of the first entry after a number.
    fn after(&self, seq: u64) -> usize {
        self.entries.partition_point(|e| e.birth.seq.0 <= seq)
    }

    fn finish(&mut self, entry: Option<Entry>, state: State, out: &mut Vec<Finished>, gone: &mut Tally) {
        if let Some(entry) = &entry {
            self.pins += 1;
            out.push(Finished { key: self.key.clone(), row: entry.row, state });
        }
        gone.add(entry);
    }

    /// An empty inbox, which is what most are, holds no buffer.
    fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }
}

impl Tally {
    fn add(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.messages += 1;
            self.payload_bytes += entry.payload.map_or(0, |p| p.len());
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.payload_bytes += other.payload_bytes;
    }
}
