//! What is known of an app's broadcast log: the newest entries with what is sent of them, and of older ones for whom they were.

use std::{collections::VecDeque, sync::Arc};

use audience::Slice;
use bytes::Bytes;

use crate::exchange::{LogEntry, LogRun, Meant};

/// Entries of which is known for whom they were, without their frames: as many as the most slices of one job, 2.5 MB. Those
/// that must give way before the archive has been told of them are counted as lost.
const MAX_ENTRIES: usize = 20_000;
/// Bytes of frames made for slices. Who comes later than those needs one made anew.
const HOT_BYTES: usize = 1 << 20;

/// A broadcast, or a slice of one, and what became of it here.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) bseq: u64,
    pub(crate) id: u64,
    expires_ms: u64,
    pub(crate) meant: Arc<Meant>,
    pub(crate) slice: Slice,
    /// What is sent; nothing in front of the tail, where it is known only for whom it was.
    pub(crate) entry: Option<Arc<LogEntry>>,
    /// The frame of a slice, while it is being sent to many.
    hot: Option<Bytes>,
    pub(crate) recalled: bool,
    /// Dead before anybody here could be sent it.
    pub(crate) stillborn: bool,
    /// Bindings here that it is meant for and of which the archive has not been told: whose device has acked, who were passed
    /// over because it was dead, and the others.
    pub(crate) acked: u32,
    pub(crate) skipped: u32,
    pub(crate) open: u32,
    /// Ever, in this thread.
    pub(crate) sent: u64,
    pub(crate) acks: u64,
    /// When it came, and when the first was sent it; 0 = nobody yet.
    pub(crate) came_ms: u64,
    pub(crate) began_ms: u64,
}

impl Kept {
    fn new(entry: &Arc<LogEntry>, now_ms: u64) -> Self {
        Self {
            bseq: entry.bseq,
            id: entry.id.0,
            expires_ms: entry.expires_ms,
            meant: Arc::clone(&entry.meant),
            slice: entry.slice,
            entry: Some(Arc::clone(entry)),
            hot: None,
            recalled: entry.recalled,
            stillborn: false,
            acked: 0,
            skipped: 0,
            open: 0,
            sent: 0,
            acks: 0,
            came_ms: now_ms,
            began_ms: 0,
        }
    }

    /// Whether nothing is sent of it any more.
    pub(crate) fn is_dead(&self, unix_ms: u64) -> bool {
        self.recalled || (self.expires_ms != 0 && self.expires_ms <= unix_ms)
    }

    /// Bindings here of which the archive has not been told.
    pub(crate) fn uncounted(&self) -> u64 {
        u64::from(self.open) + u64::from(self.acked) + u64::from(self.skipped)
    }
}

/// The entries that are known. The tail proper is their end, which has their frames too.
#[derive(Debug)]
pub(crate) struct Tail {
    /// What was opened before `oldest` may lack parts, but none that a binding here has been served.
    pub(crate) entries: VecDeque<Kept>,
    /// Everything alive in (oldest, known] is here with its frame.
    pub(crate) oldest: u64,
    pub(crate) known: u64,
    /// From here on all is known for whom it was.
    pub(crate) covered: u64,
    bytes: usize,
    /// Slices with a frame.
    hot: VecDeque<u64>,
    hot_bytes: usize,
}

/// What became of a run that was put at the end of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// These many entries are new: the last ones of the tail.
    By(usize),
    /// All of it was known.
    Known,
    /// There is a hole before it, or no room until the pass has gone on: the log has to ask for it again.
    Hole,
}

impl Tail {
    /// One that begins after a number.
    pub(crate) fn new(head: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            oldest: head,
            known: head,
            covered: head,
            bytes: 0,
            hot: VecDeque::new(),
            hot_bytes: 0,
        }
    }

    /// Puts a run at the end, unless what comes after `done` and so has to stay is too much already.
    pub(crate) fn extend(&mut self, run: &LogRun, done: u64, max_bytes: usize, now_ms: u64) -> Extended {
        if run.through <= self.known {
            return Extended::Known;
        }
        let pending = self.bytes_from(self.position_after(done));
        if run.after > self.known || pending > max_bytes {
            return Extended::Hole;
        }
        let mut fresh = 0;
        for entry in run.entries.iter().filter(|entry| entry.bseq > self.known && entry.bseq <= run.through) {
            let before = self.entries.back().and_then(|kept| kept.entry.as_deref());
            self.bytes += entry.bytes(before);
            self.entries.push_back(Kept::new(entry, now_ms));
            fresh += 1;
        }
        self.known = run.through;
        self.trim(done, max_bytes);
        Extended::By(fresh)
    }

    fn bytes_from(&self, first: usize) -> usize {
        let before = first.checked_sub(1).and_then(|place| self.entries[place].entry.as_deref());
        let mut before = before;
        let mut bytes = 0;
        for entry in self.entries.range(first..).filter_map(|kept| kept.entry.as_deref()) {
            bytes += entry.bytes(before);
            before = Some(entry);
        }
        bytes
    }

    /// Notes for whom entries of a page were that is older than the tail.
    pub(crate) fn note(&mut self, run: &LogRun, unix_ms: u64, now_ms: u64) {
        for entry in run.entries.iter().filter(|entry| entry.bseq <= self.oldest) {
            let place = self.position_after(entry.bseq - 1);
            if self.entries.get(place).is_none_or(|kept| kept.bseq != entry.bseq) {
                let stillborn = entry.is_dead(unix_ms);
                self.entries.insert(place, Kept { entry: None, stillborn, ..Kept::new(entry, now_ms) });
            }
        }
    }

    /// Drops the frames of the oldest over the bound, but nothing after `done`.
    pub(crate) fn trim(&mut self, done: u64, max_bytes: usize) {
        let mut first = self.position_after(self.oldest);
        while self.bytes > max_bytes {
            let (Some(kept), next) = (self.entries.get(first), self.entries.get(first + 1)) else { break };
            if kept.bseq > done {
                break;
            }
            let Some(entry) = kept.entry.as_deref() else { break };
            // The next may have been counted as one that shares its payload.
            let next = next.and_then(|next| next.entry.as_deref());
            let freed = entry.bytes(None) + next.map_or(0, |next| next.bytes(Some(entry)));
            let taken = next.map_or(0, |next| next.bytes(None));
            self.oldest = kept.bseq;
            self.bytes = (self.bytes + taken).saturating_sub(freed);
            self.cool(first);
            self.entries[first].entry = None;
            first += 1;
        }
    }

    /// Takes out the oldest of which only is known for whom it was, if there are too many.
    pub(crate) fn pop_old(&mut self) -> Option<Kept> {
        if self.entries.len() <= MAX_ENTRIES || self.entries.front()?.entry.is_some() {
            return None;
        }
        let kept = self.entries.pop_front()?;
        self.covered = self.covered.max(kept.bseq);
        Some(kept)
    }

    /// Whether the archive should be told soon of what is old, so that none of it is lost.
    pub(crate) fn is_crowded(&self) -> bool {
        self.entries.len() > MAX_ENTRIES / 2
    }

    /// The frame of an entry.
    pub(crate) fn frame(&mut self, place: usize) -> Option<Bytes> {
        let kept = self.entries.get_mut(place)?;
        if let Some(frame) = &kept.hot {
            return Some(frame.clone());
        }
        let entry = kept.entry.as_ref()?;
        let frame = entry.frame();
        if !entry.slice.is_whole() {
            kept.hot = Some(frame.clone());
            self.hot.push_back(kept.bseq);
            self.hot_bytes += frame.len();
            while self.hot_bytes > HOT_BYTES
                && self.hot.len() > 1
                && let Some(oldest) = self.hot.front().copied()
            {
                let place = self.position_after(oldest - 1);
                self.cool(place);
            }
        }
        Some(frame)
    }

    /// Lets the frame of a slice go.
    fn cool(&mut self, place: usize) {
        let Some(kept) = self.entries.get_mut(place) else { return };
        let Some(frame) = kept.hot.take() else { return };
        let bseq = kept.bseq;
        self.hot_bytes -= frame.len();
        self.hot.retain(|hot| *hot != bseq);
    }

    /// Place of the first broadcast after `bseq`.
    pub(crate) fn position_after(&self, bseq: u64) -> usize {
        self.entries.partition_point(|kept| kept.bseq <= bseq)
    }

    /// The broadcasts after `bseq`.
    #[cfg(test)]
    pub(crate) fn after(&self, bseq: u64) -> impl Iterator<Item = &Kept> {
        self.entries.range(self.position_after(bseq)..)
    }
}

#[cfg(test)]
mod tests;
