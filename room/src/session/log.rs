//! A thread's view of an app's broadcast log: who has been served how far, and what is being served now.
//!
//! A binding that keeps up needs no position of its own: `done` says how far all of those have been served. While a
//! pass goes over them, those that it has met are further than `done`, and carry that in their own `cursor`. Only
//! bindings in `lagging` are judged by their own cursor alone.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use roaring::RoaringBitmap;
use slab::Slab;

use super::{
    binding::Binding,
    opening::Opening,
    owed::Owing,
    speed::Speeds,
    tail::{Extended, Tail},
};
use crate::exchange::LogRun;

/// Broadcasts that one pass sends: as many frames as one `writev` takes.
pub(crate) const PASS_ENTRIES: usize = 64;
/// Bindings that are looked at in one go: about a millisecond.
const LOOKS: u64 = 10_000;

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
    pub(crate) tail: Tail,
    /// Up to here the targets have been chosen; nothing after it is sent to anybody.
    pub(crate) opened: u64,
    pub(crate) opening: Option<Opening>,
    /// Targets of what has been opened and is in no pass yet, how many entries that is, and the last of them.
    pub(crate) next: RoaringBitmap,
    pub(crate) next_entries: (usize, u64),
    /// How far those who keep up have been served.
    pub(crate) done: u64,
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
    /// The hole was seen while a page was under way, whose answer may not know of it.
    pub(crate) late_hole: bool,
    /// In the queue of apps that have something to do.
    pub(crate) queued: bool,
}

impl Log {
    pub(crate) fn new(epoch: u64, head: u64) -> Self {
        Self {
            epoch,
            tail: Tail::new(head),
            opened: head,
            opening: None,
            next: RoaringBitmap::new(),
            next_entries: (0, 0),
            done: head,
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
            late_hole: false,
            queued: false,
        }
    }

    /// Puts a run at the end.
    pub(crate) fn extend(&mut self, run: &LogRun, max_bytes: usize, now_ms: u64) {
        // What has not been served yet must stay, so it bounds what may come.
        if self.tail.extend(run, self.done, max_bytes, now_ms) == Extended::Hole {
            self.hole = true;
            self.late_hole = self.asked;
        }
    }

    /// Forgets for whom the oldest were, over the bound. Gives for how many bindings they were of which the archive has not been
    /// told.
    pub(crate) fn forget_old(&mut self) -> u64 {
        let mut lost = 0;
        while let Some(kept) = self.tail.pop_old() {
            lost += kept.uncounted();
            self.owing.forget_entry(&kept);
            self.speeds.forget_entry(&kept);
        }
        lost
    }

    /// Place in the tail of the first broadcast after `bseq`.
    pub(crate) fn position_after(&self, bseq: u64) -> usize {
        self.tail.position_after(bseq)
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
        self.hole && self.pass.is_none() && self.done == self.tail.known
    }

    /// Whether a slice has something to do here.
    pub(crate) fn has_work(&self) -> bool {
        self.pass.is_some()
            || self.page.is_some()
            || !self.ready.is_empty()
            || self.tail.known > self.done
            || self.opening.is_some()
            || (!self.asked && (self.wants_more() || !self.waiting.is_empty()))
    }
}
