//! A thread's view of an app's broadcast log: the newest broadcasts, who has been served how far, and what is
//! being served now.
//!
//! A binding that keeps up needs no position of its own: `done` says how far all of those have been served. While a
//! pass goes over them, those that it has met are further than `done`, and carry that in their own `cursor`. Only
//! bindings in `lagging` are judged by their own cursor alone.

use std::{collections::VecDeque, sync::Arc};

use roaring::RoaringBitmap;
use slab::Slab;

use super::binding::Binding;
use crate::exchange::{LogEntry, LogRun};

/// Broadcasts that one pass sends: as many frames as one `writev` takes.
pub(crate) const PASS_ENTRIES: usize = 64;
/// Bindings that are looked at in one go: about a millisecond.
const LOOKS: u64 = 10_000;

/// A broadcast in the tail, and what became of it here.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) entry: Arc<LogEntry>,
    pub(crate) recalled: bool,
    pub(crate) targets: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
}

/// One round over the bindings that keep up.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Serves everything up to here, and whom it meets, what has come since as well.
    pub(crate) to: u64,
    /// Who is still to be met.
    pub(crate) targets: RoaringBitmap,
    /// The one broadcast that it sends, if it is only one: then it is meant for every target, and none has to be looked up in
    /// the bitmaps of tags again.
    pub(crate) only: Option<u64>,
}

/// A part of the log that is older than the tail, for those who lag that far.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) run: LogRun,
    /// Who is still to be served from it.
    pub(crate) slots: RoaringBitmap,
}

/// The log of one app in one thread.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) epoch: u64,
    /// The tail holds everything alive in (oldest, known].
    pub(crate) oldest: u64,
    pub(crate) known: u64,
    /// How far those who keep up have been served.
    pub(crate) done: u64,
    pub(crate) tail: VecDeque<Kept>,
    tail_bytes: usize,
    pub(crate) lagging: RoaringBitmap,
    /// Lagging, and their socket has room: to be served in one of the next slices.
    pub(crate) ready: RoaringBitmap,
    /// Lagging behind the tail: they wait for a page.
    pub(crate) waiting: RoaringBitmap,
    pub(crate) pass: Option<Pass>,
    pub(crate) page: Option<Page>,
    /// A page has been asked for and has not come.
    pub(crate) asked: bool,
    /// There is more after `known` which has to be asked for.
    pub(crate) hole: bool,
    /// In the queue of apps that have something to do.
    pub(crate) queued: bool,
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

impl Log {
    pub(crate) fn new(epoch: u64, head: u64) -> Self {
        Self {
            epoch,
            oldest: head,
            known: head,
            done: head,
            tail: VecDeque::new(),
            tail_bytes: 0,
            lagging: RoaringBitmap::new(),
            ready: RoaringBitmap::new(),
            waiting: RoaringBitmap::new(),
            pass: None,
            page: None,
            asked: false,
            hole: false,
            queued: false,
        }
    }

    /// Puts a run at the end.
    pub(crate) fn extend(&mut self, run: &LogRun, max_bytes: usize) -> Extended {
        if run.through <= self.known {
            return Extended::Known;
        }
        // What has not been served yet must stay, so it bounds what may come.
        let pending: usize = self.after(self.done).map(|kept| kept.entry.frame.len()).sum();
        if run.after > self.known || pending > max_bytes {
            self.hole = true;
            return Extended::Hole;
        }
        let mut fresh = 0;
        for entry in run.entries.iter().filter(|entry| entry.bseq > self.known && entry.bseq <= run.through) {
            self.tail_bytes += entry.frame.len();
            self.tail.push_back(Kept {
                entry: Arc::clone(entry),
                recalled: false,
                targets: 0,
                sent: 0,
                acked: 0,
            });
            fresh += 1;
        }
        self.known = run.through;
        self.trim(max_bytes);
        Extended::By(fresh)
    }

    /// Drops the oldest over the bound, but nothing that the pass still needs.
    pub(crate) fn trim(&mut self, max_bytes: usize) {
        while self.tail_bytes > max_bytes {
            match self.tail.front() {
                Some(kept) if kept.entry.bseq <= self.done => {
                    self.oldest = kept.entry.bseq;
                    self.tail_bytes -= kept.entry.frame.len();
                    self.tail.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Place in the tail of the first broadcast after `bseq`.
    pub(crate) fn position_after(&self, bseq: u64) -> usize {
        self.tail.partition_point(|kept| kept.entry.bseq <= bseq)
    }

    /// The broadcasts of the tail after `bseq`.
    pub(crate) fn after(&self, bseq: u64) -> impl Iterator<Item = &Kept> {
        self.tail.range(self.position_after(bseq)..)
    }

    /// How far a pass goes that begins or goes on now.
    pub(crate) fn pass_end(&self) -> u64 {
        self.after(self.done).nth(PASS_ENTRIES - 1).map_or(self.known, |kept| kept.entry.bseq)
    }

    /// How far a binding has been served, given its own cursor.
    pub(crate) fn reached(&self, slot: u32, cursor: u64) -> u64 {
        if self.lagging.contains(slot) { cursor } else { cursor.max(self.done) }
    }

    /// Which of the bindings that a broadcast is meant for have been sent it. Of one that is being sent to very many, all of
    /// them: a look at each of a million takes a tenth of a second, and who has it not ignores that it is taken back.
    pub(crate) fn have(&self, bseq: u64, meant: RoaringBitmap, bindings: &Slab<Binding>) -> RoaringBitmap {
        let reached = |slot: &u32| bindings.get(*slot as usize).is_some_and(|binding| binding.cursor >= bseq);
        if self.done < bseq {
            return if meant.len() > LOOKS { meant } else { meant.iter().filter(reached).collect() };
        }
        let behind = &meant & &self.lagging;
        let mut have = meant - &behind;
        have.extend(behind.iter().filter(reached));
        have
    }

    /// Takes a binding out of everything, so that whoever uses its slot next is not mistaken for it.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.lagging.remove(slot);
        self.ready.remove(slot);
        self.waiting.remove(slot);
        if let Some(pass) = &mut self.pass {
            pass.targets.remove(slot);
        }
        if let Some(page) = &mut self.page {
            page.slots.remove(slot);
        }
    }

    /// A binding has no socket: it is served no more until it comes back, and its cursor stays.
    pub(crate) fn rest(&mut self, slot: u32) {
        self.ready.remove(slot);
        self.waiting.remove(slot);
        if let Some(page) = &mut self.page {
            page.slots.remove(slot);
        }
    }

    /// Notes that a binding goes on from its own cursor, as soon as its turn comes.
    pub(crate) fn lag(&mut self, slot: u32) {
        self.lagging.insert(slot);
        self.ready.insert(slot);
    }

    /// The numbers went back: the log was lost and made anew. Everyone stands at its beginning.
    pub(crate) fn restart(&mut self, epoch: u64, head: u64) {
        let (queued, asked) = (self.queued, self.asked);
        *self = Self { queued, asked, ..Self::new(epoch, head) };
    }

    /// Whether what is missing after the tail may be asked for: not before what is there has been served, because
    /// there might be no room for it.
    pub(crate) fn wants_more(&self) -> bool {
        self.hole && self.pass.is_none() && self.done == self.known
    }

    /// Whether a slice has something to do here.
    pub(crate) fn has_work(&self) -> bool {
        self.pass.is_some()
            || self.page.is_some()
            || !self.ready.is_empty()
            || self.known > self.done
            || (!self.asked && (self.wants_more() || !self.waiting.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use audience::Audience;
    use bytes::Bytes;
    use wire::id::{AppId, MessageId};

    use super::*;

    fn run(after: u64, through: u64) -> LogRun {
        let entries = (after + 1..=through)
            .map(|bseq| {
                Arc::new(LogEntry {
                    bseq,
                    id: MessageId(bseq),
                    frame: Bytes::from(vec![0; 10]),
                    audience: Audience::everyone(),
                    expires_ms: 0,
                })
            })
            .collect();
        LogRun { app: AppId(1), epoch: 1, after, through, entries }
    }

    #[test]
    fn overlaps_are_known_and_holes_are_seen() {
        let mut log = Log::new(1, 5);
        assert_eq!(log.extend(&run(3, 5), 1000), Extended::Known);
        assert_eq!(log.extend(&run(3, 7), 1000), Extended::By(2));
        assert_eq!(log.extend(&run(8, 9), 1000), Extended::Hole);
        assert!(log.hole);
        assert_eq!(log.known, 7);
        assert_eq!(log.after(6).map(|kept| kept.entry.bseq).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_is_not_served_stays_and_bounds_what_comes() {
        let mut log = Log::new(1, 0);
        assert_eq!(log.extend(&run(0, 4), 30), Extended::By(4));
        assert_eq!((log.tail.len(), log.oldest), (4, 0));
        assert_eq!(log.extend(&run(4, 5), 30), Extended::Hole);
        log.done = 4;
        log.trim(30);
        assert_eq!((log.tail.len(), log.oldest), (3, 1));
        assert_eq!(log.extend(&run(4, 5), 30), Extended::By(1));
    }
}
