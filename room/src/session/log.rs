//! A thread's view of an app's broadcast log: the newest broadcasts, who has been served how far, and what is
//! being served now.
//!
//! A binding that keeps up needs no position of its own: `done` says how far all of those have been served. While a
//! pass goes over them, those that it has met are further than `done`, and carry that in their own `cursor`. Only
//! bindings in `lagging` are judged by their own cursor alone.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use audience::Slice;
use bytes::Bytes;
use foldhash::fast::RandomState;
use roaring::RoaringBitmap;
use slab::Slab;

use super::{binding::Binding, opening::Opening, owed::Owing, speed::Speeds};
use crate::exchange::{LogEntry, LogRun, Meant};

/// Broadcasts that one pass sends: as many frames as one `writev` takes.
pub(crate) const PASS_ENTRIES: usize = 64;
/// Bindings that are looked at in one go: about a millisecond.
const LOOKS: u64 = 10_000;
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
    /// Up to here the targets have been chosen; nothing after it is sent to anybody.
    pub(crate) opened: u64,
    pub(crate) opening: Option<Opening>,
    /// From here on all is known for whom it was.
    pub(crate) covered: u64,
    /// Targets of what has been opened and is in no pass yet, how many entries that is, and the last of them.
    pub(crate) next: RoaringBitmap,
    pub(crate) next_entries: (usize, u64),
    /// How far those who keep up have been served.
    pub(crate) done: u64,
    /// What is known of the log, the tail at its end: what was opened before may lack parts, but none that a binding here has
    /// been served.
    pub(crate) tail: VecDeque<Kept>,
    tail_bytes: usize,
    /// Slices with a frame.
    hot: VecDeque<u64>,
    hot_bytes: usize,
    pub(crate) lagging: RoaringBitmap,
    /// Lagging, and their socket has room: to be served in one of the next slices.
    pub(crate) ready: RoaringBitmap,
    /// Lagging behind the tail: they wait for a page.
    pub(crate) waiting: RoaringBitmap,
    /// Bound at a place in front of what is known, and not at the tail yet: counted only as far as they have been served.
    pub(crate) deep: RoaringBitmap,
    /// Bound at a place that has not been opened.
    pub(crate) ahead: HashSet<u32, RandomState>,
    pub(crate) owing: Owing,
    pub(crate) speeds: Speeds,
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
            opened: head,
            opening: None,
            covered: head,
            next: RoaringBitmap::new(),
            next_entries: (0, 0),
            done: head,
            tail: VecDeque::new(),
            tail_bytes: 0,
            hot: VecDeque::new(),
            hot_bytes: 0,
            lagging: RoaringBitmap::new(),
            ready: RoaringBitmap::new(),
            waiting: RoaringBitmap::new(),
            deep: RoaringBitmap::new(),
            ahead: HashSet::default(),
            owing: Owing::default(),
            speeds: Speeds::default(),
            pass: None,
            page: None,
            asked: false,
            hole: false,
            queued: false,
        }
    }

    /// Puts a run at the end.
    pub(crate) fn extend(&mut self, run: &LogRun, max_bytes: usize, now_ms: u64) -> Extended {
        if run.through <= self.known {
            return Extended::Known;
        }
        // What has not been served yet must stay, so it bounds what may come.
        let pending = self.bytes_from(self.position_after(self.done));
        if run.after > self.known || pending > max_bytes {
            self.hole = true;
            return Extended::Hole;
        }
        let mut fresh = 0;
        for entry in run.entries.iter().filter(|entry| entry.bseq > self.known && entry.bseq <= run.through) {
            let before = self.tail.back().and_then(|kept| kept.entry.as_deref());
            self.tail_bytes += entry.bytes(before);
            self.tail.push_back(Kept::new(entry, now_ms));
            fresh += 1;
        }
        self.known = run.through;
        self.trim(max_bytes);
        Extended::By(fresh)
    }

    fn bytes_from(&self, first: usize) -> usize {
        let before = first.checked_sub(1).and_then(|place| self.tail[place].entry.as_deref());
        let mut before = before;
        let mut bytes = 0;
        for entry in self.tail.range(first..).filter_map(|kept| kept.entry.as_deref()) {
            bytes += entry.bytes(before);
            before = Some(entry);
        }
        bytes
    }

    /// Notes for whom entries of a page were that is older than the tail.
    pub(crate) fn note(&mut self, run: &LogRun, unix_ms: u64, now_ms: u64) {
        for entry in run.entries.iter().filter(|entry| entry.bseq <= self.oldest) {
            let place = self.position_after(entry.bseq - 1);
            if self.tail.get(place).is_none_or(|kept| kept.bseq != entry.bseq) {
                let stillborn = entry.is_dead(unix_ms);
                self.tail.insert(place, Kept { entry: None, stillborn, ..Kept::new(entry, now_ms) });
            }
        }
    }

    /// Drops the frames of the oldest over the bound, but nothing that the pass still needs.
    pub(crate) fn trim(&mut self, max_bytes: usize) {
        let mut first = self.position_after(self.oldest);
        while self.tail_bytes > max_bytes {
            let (Some(kept), next) = (self.tail.get(first), self.tail.get(first + 1)) else { break };
            if kept.bseq > self.done {
                break;
            }
            let Some(entry) = kept.entry.as_deref() else { break };
            // The next may have been counted as one that shares its payload.
            let next = next.and_then(|next| next.entry.as_deref());
            let freed = entry.bytes(None) + next.map_or(0, |next| next.bytes(Some(entry)));
            let taken = next.map_or(0, |next| next.bytes(None));
            self.oldest = kept.bseq;
            self.tail_bytes = (self.tail_bytes + taken).saturating_sub(freed);
            self.cool(first);
            self.tail[first].entry = None;
            first += 1;
        }
    }

    /// Drops the oldest of which only is known for whom they were, over the bound. Gives for how many bindings they were of
    /// which the archive has not been told.
    pub(crate) fn forget_old(&mut self) -> u64 {
        let mut lost = 0;
        while self.tail.len() > MAX_ENTRIES
            && self.tail.front().is_some_and(|kept| kept.entry.is_none())
            && let Some(kept) = self.tail.pop_front()
        {
            lost += kept.uncounted();
            self.covered = self.covered.max(kept.bseq);
            self.owing.forget_entry(&kept);
            self.speeds.forget_entry(&kept);
        }
        lost
    }

    /// Whether the archive should be told soon of what is old, so that none of it is lost.
    pub(crate) fn is_crowded(&self) -> bool {
        self.tail.len() > MAX_ENTRIES / 2
    }

    /// The frame of an entry of the tail.
    pub(crate) fn frame(&mut self, place: usize) -> Option<Bytes> {
        let kept = self.tail.get_mut(place)?;
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
        let Some(kept) = self.tail.get_mut(place) else { return };
        let Some(frame) = kept.hot.take() else { return };
        let bseq = kept.bseq;
        self.hot_bytes -= frame.len();
        self.hot.retain(|hot| *hot != bseq);
    }

    /// Place in the tail of the first broadcast after `bseq`.
    pub(crate) fn position_after(&self, bseq: u64) -> usize {
        self.tail.partition_point(|kept| kept.bseq <= bseq)
    }

    /// The broadcasts of the tail after `bseq`.
    #[cfg(test)]
    pub(crate) fn after(&self, bseq: u64) -> impl Iterator<Item = &Kept> {
        self.tail.range(self.position_after(bseq)..)
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

    /// How far a binding is counted.
    pub(crate) fn counted(&self, slot: u32, binding: &Binding) -> u64 {
        if self.deep.contains(slot) {
            return binding.cursor;
        }
        self.opening.as_ref().and_then(|opening| opening.has_met(slot)).unwrap_or(self.opened)
    }

    /// Takes a binding out of everything, so that whoever uses its slot next is not mistaken for it.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.deep.remove(slot);
        self.ahead.remove(&slot);
        self.next.remove(slot);
        self.owing.forget(slot);
        if let Some(opening) = &mut self.opening {
            opening.forget(slot);
        }
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

    /// A binding goes on from an earlier place: it has nothing to do with what is being served now.
    pub(crate) fn go_back(&mut self, slot: u32) {
        self.lagging.remove(slot);
        self.rest(slot);
        if let Some(pass) = &mut self.pass {
            pass.targets.remove(slot);
        }
        self.lag(slot);
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
            || self.opening.is_some()
            || (!self.asked && (self.wants_more() || !self.waiting.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use audience::Audience;
    use wire::id::{AppId, MessageId};

    use super::*;

    fn run(after: u64, through: u64) -> LogRun {
        let entries = (after + 1..=through)
            .map(|bseq| {
                let frame = Bytes::from(vec![0; 10]);
                Arc::new(LogEntry::whole(bseq, MessageId(bseq), frame, Audience::everyone(), 0))
            })
            .collect();
        LogRun { app: AppId(1), epoch: 1, after, through, entries }
    }

    fn with_frames(log: &Log) -> Vec<u64> {
        log.tail.iter().filter(|kept| kept.entry.is_some()).map(|kept| kept.bseq).collect()
    }

    #[test]
    fn overlaps_are_known_and_holes_are_seen() {
        let mut log = Log::new(1, 5);
        assert_eq!(log.extend(&run(3, 5), 1000, 0), Extended::Known);
        assert_eq!(log.extend(&run(3, 7), 1000, 0), Extended::By(2));
        assert_eq!(log.extend(&run(8, 9), 1000, 0), Extended::Hole);
        assert!(log.hole);
        assert_eq!(log.known, 7);
        assert_eq!(log.after(6).map(|kept| kept.bseq).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_is_not_served_stays_and_bounds_what_comes() {
        let mut log = Log::new(1, 0);
        assert_eq!(log.extend(&run(0, 4), 30, 0), Extended::By(4));
        assert_eq!((with_frames(&log).len(), log.oldest), (4, 0));
        assert_eq!(log.extend(&run(4, 5), 30, 0), Extended::Hole);
        log.done = 4;
        log.trim(30);
        assert_eq!((with_frames(&log), log.oldest, log.tail.len()), (vec![2, 3, 4], 1, 4));
        assert_eq!(log.extend(&run(4, 5), 30, 0), Extended::By(1));
    }

    /// Of what is in front of the tail only is known for whom it was; pages that are older put it there too.
    #[test]
    fn old_entries_are_known_without_frames_and_bounded() {
        let mut log = Log::new(1, 40_000);
        log.note(&run(30_000, 30_010), 0, 0);
        log.note(&run(30_005, 30_020), 0, 0);
        assert_eq!(log.tail.len(), 20);
        assert!(log.tail.iter().map(|kept| kept.bseq).is_sorted());
        log.note(&run(10_000, 30_000), 0, 0);
        log.tail[3].open = 2;
        assert_eq!(log.forget_old(), 2);
        assert_eq!((log.tail.len(), log.tail[0].bseq), (MAX_ENTRIES, 10_021));
    }

    /// A job of many slices costs its payload once.
    #[test]
    fn slices_share_their_payload_and_make_frames_when_they_are_sent() {
        let payload = Bytes::from(vec![7; 100_000]);
        let slice = |bseq: u64| {
            let body =
                crate::exchange::Body::Parts { app: AppId(1), payload: payload.clone(), accepted_ms: 1 };
            let slice = Slice::new(bseq << 20, (bseq + 1) << 20).unwrap();
            Arc::new(LogEntry { body, slice, ..(*run(bseq - 1, bseq).entries[0]).clone() })
        };
        let mut log = Log::new(1, 0);
        let all = LogRun { entries: (1..=100).map(slice).collect(), through: 100, ..run(0, 0) };
        log.extend(&all, 4 << 20, 0);
        assert!(log.tail_bytes < 200_000, "{}", log.tail_bytes);
        for place in 0..100 {
            assert!(log.frame(place).unwrap().len() > 100_000);
            assert!(log.hot_bytes <= HOT_BYTES && log.hot.len() <= 10);
        }
        log.done = 100;
        log.trim(0);
        assert_eq!((log.tail_bytes, log.hot_bytes, log.tail.len()), (0, 0, 100));
    }
}
