//! What the archive has not been told: what became of each broadcast for each binding, counted per entry and never asked of all
//! bindings. A binding *stands* in one of three ways to an entry that is meant for it and lies between the cursor that the
//! archive has and the place up to which it is counted; the entry counts each. How it stands follows from the binding's own
//! numbers, but for those who were passed over because the entry was dead, which are noted here until the archive knows.

use std::collections::{BTreeMap, HashMap, VecDeque};

use audience::Offset;
use foldhash::fast::RandomState;
use wire::id::MessageId;

use super::{
    apps::{App, Tags},
    binding::Binding,
    log::Log,
    tail::Kept,
};
use crate::exchange::{Credit, Fate};

/// Bindings that may be noted as passed over, of one app; more count as acked when they ack something later. 2 MB.
const MAX_SKIPS: usize = 50_000;
/// What one binding may owe from before; more is told as far as it goes.
const MAX_OWED: usize = 1_024;

/// How a binding stands to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Acked,
    Skipped(Fate),
    Open,
}

/// What is known of bindings beyond their numbers.
#[derive(Debug, Default)]
pub(crate) struct Owing {
    skips: BTreeMap<(u32, u64), Fate>,
    before: HashMap<u32, Before, RandomState>,
    moved: HashMap<u32, Moved, RandomState>,
    /// The credits of all these, by message: acked, expired, recalled.
    sums: HashMap<u64, [u64; 3], RandomState>,
    /// Bindings that could not be noted as passed over.
    pub(crate) forgotten: u64,
}

/// What a binding owes up to a place, whatever it is meant for now.
#[derive(Debug)]
struct Before {
    through: u64,
    credits: Vec<Credit>,
}

/// A binding whose device has come elsewhere. What it had been served by then was chosen by where it was, and so it counts,
/// whenever the device acks it.
#[derive(Debug)]
struct Moved {
    through: u64,
    /// What of it was meant for the binding, in order.
    had: Vec<u64>,
}

impl Moved {
    /// Whether an entry was meant for it, if that was decided before it moved.
    fn had(&self, bseq: u64) -> Option<bool> {
        (bseq <= self.through).then(|| self.had.binary_search(&bseq).is_ok())
    }
}

impl Owing {
    /// Whether an entry is, or was when it was served, meant for a binding.
    pub(crate) fn is_meant(&self, tags: &Tags, kept: &Kept, slot: u32, binding: &Binding) -> bool {
        // The usual case hashes nothing.
        let moved = if self.moved.is_empty() { None } else { self.moved.get(&slot) };
        moved.and_then(|moved| moved.had(kept.bseq)).unwrap_or_else(|| {
            // The ring first: of the slices of a job each binding is on one.
            kept.slice.contains(binding.place) && tags.matches(&kept.meant, slot, binding)
        })
    }

    /// Bindings that an entry was meant for where their devices were before.
    pub(crate) fn had_elsewhere(&self, bseq: u64) -> impl Iterator<Item = u32> {
        self.moved.iter().filter(move |(_, moved)| moved.had(bseq) == Some(true)).map(|(slot, _)| *slot)
    }

    /// Notes what of the entries up to a place was meant for a binding that moves. The oldest go if they are too many.
    fn note_moved(&mut self, slot: u32, through: u64, mut had: Vec<u64>) {
        let surplus = had.len().saturating_sub(MAX_OWED);
        self.forgotten += surplus as u64;
        had.drain(..surplus);
        self.moved.insert(slot, Moved { through, had });
    }

    /// A binding is served anew from a place on, by where it is now.
    fn unmove(&mut self, slot: u32, from: u64) {
        let Some(moved) = self.moved.get_mut(&slot) else { return };
        moved.through = moved.through.min(from);
        moved.had.retain(|bseq| *bseq <= from);
    }

    /// How far what a binding was served was chosen by where it is no more.
    fn moved_through(&self, slot: u32) -> u64 {
        if self.moved.is_empty() { 0 } else { self.moved.get(&slot).map_or(0, |moved| moved.through) }
    }

    /// What is noted of a binding as passed over in (after, through].
    fn skips_in(&self, slot: u32, (after, through): (u64, u64)) -> BTreeMap<u64, Fate> {
        if self.skips.is_empty() || through <= after {
            return BTreeMap::new();
        }
        self.skips
            .range((slot, after + 1)..=(slot, through))
            .map(|((_, bseq), fate)| (*bseq, *fate))
            .collect()
    }

    /// Notes what a binding owes.
    fn owe(&mut self, slot: u32, before: Before) {
        self.pay(slot, u64::MAX);
        for credit in &before.credits {
            self.sums.entry(credit.id.0).or_default()[credit.fate as usize] += 1;
        }
        self.before.insert(slot, before);
    }

    /// A binding owes nothing from before any more, up to a place.
    fn pay(&mut self, slot: u32, through: u64) {
        // The usual case hashes nothing.
        if self.before.is_empty() {
            return;
        }
        let Some(before) = self.before.get_mut(&slot) else { return };
        let paid = before.credits.partition_point(|credit| credit.bseq <= through);
        for credit in before.credits.drain(..paid) {
            let Some(sum) = self.sums.get_mut(&credit.id.0) else { continue };
            sum[credit.fate as usize] = sum[credit.fate as usize].saturating_sub(1);
            if *sum == [0; 3] {
                self.sums.remove(&credit.id.0);
            }
        }
        if before.through <= through {
            self.before.remove(&slot);
        }
    }

    /// Bindings that owe something from before.
    pub(crate) fn debtors(&self) -> impl Iterator<Item = u32> {
        self.before.iter().filter(|(_, before)| !before.credits.is_empty()).map(|(slot, _)| *slot)
    }

    pub(crate) fn has_debtors(&self) -> bool {
        !self.sums.is_empty()
    }

    /// What bindings here owe of a message: acked, expired, recalled.
    pub(crate) fn sum(&self, id: u64) -> [u64; 3] {
        self.sums.get(&id).copied().unwrap_or_default()
    }

    fn standing(&self, kept: &Kept, slot: u32, binding: &Binding) -> Standing {
        // The usual case looks nothing up.
        let skipped = if kept.skipped > 0 { self.skips.get(&(slot, kept.bseq)) } else { None };
        if let Some(fate) = skipped {
            Standing::Skipped(*fate)
        } else if kept.bseq <= binding.backed && !kept.stillborn {
            Standing::Acked
        } else {
            Standing::Open
        }
    }

    /// From here on a binding is counted.
    fn base(&self, slot: u32, binding: &Binding) -> u64 {
        let before = if self.before.is_empty() { None } else { self.before.get(&slot) };
        before.map_or(binding.bsaved, |before| before.through.max(binding.bsaved))
    }

    /// A binding is over, or another uses its slot.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.settle(slot, u64::MAX);
    }

    /// The archive knows all up to a place.
    fn settle(&mut self, slot: u32, through: u64) {
        self.pay(slot, through);
        if !self.moved.is_empty() && self.moved_through(slot) <= through {
            self.moved.remove(&slot);
        }
        if self.skips.is_empty() {
            return;
        }
        let over: Vec<_> = self.skips.range((slot, 0)..=(slot, through)).map(|(key, _)| *key).collect();
        for key in over {
            self.skips.remove(&key);
        }
    }

    /// An entry is not known any more.
    pub(crate) fn forget_entry(&mut self, kept: &Kept) {
        if kept.skipped > 0 {
            self.skips.retain(|(_, bseq), _| *bseq != kept.bseq);
        }
    }
}

fn fate(kept: &Kept) -> Fate {
    if kept.recalled { Fate::Recalled } else { Fate::Expired }
}

/// Goes over the entries in (after, through] that are meant for a binding.
fn meant(
    tags: &Tags,
    log: &mut Log,
    who: (u32, &Binding),
    span: (u64, u64),
    each: impl FnMut(&mut Kept, Standing),
) {
    let Log { tail, owing, .. } = log;
    meant_of(tags, &mut tail.entries, owing, who, span, each);
}

/// The same where the rest of the log is used meanwhile.
fn meant_of(
    tags: &Tags,
    tail: &mut VecDeque<Kept>,
    owing: &Owing,
    (slot, binding): (u32, &Binding),
    (after, through): (u64, u64),
    mut each: impl FnMut(&mut Kept, Standing),
) {
    let first = tail.partition_point(|kept| kept.bseq <= after);
    for kept in tail.range_mut(first..) {
        if kept.bseq > through {
            return;
        }
        if owing.is_meant(tags, kept, slot, binding) {
            let standing = owing.standing(kept, slot, binding);
            each(kept, standing);
        }
    }
}

fn count_in(kept: &mut Kept, standing: Standing) {
    match standing {
        Standing::Acked => kept.acked += 1,
        Standing::Skipped(_) => kept.skipped += 1,
        Standing::Open => kept.open += 1,
    }
}

fn count_out(kept: &mut Kept, standing: Standing) {
    let count = match standing {
        Standing::Acked => &mut kept.acked,
        Standing::Skipped(_) => &mut kept.skipped,
        Standing::Open => &mut kept.open,
    };
    debug_assert!(*count > 0, "counted out what was not counted in: {standing:?}");
    *count = count.saturating_sub(1);
}

/// Passes over a dead entry for a binding that it is meant for.
pub(crate) fn pass_over(log: &mut Log, place: usize, slot: u32, binding: &Binding) {
    let base = log.owing.base(slot, binding);
    let Some(kept) = log.tail.entries.get_mut(place) else { return };
    if kept.bseq <= base || log.owing.standing(kept, slot, binding) != Standing::Open {
        return;
    }
    if log.owing.skips.len() >= MAX_SKIPS {
        log.owing.forgotten += 1;
        return;
    }
    log.owing.skips.insert((slot, kept.bseq), fate(kept));
    kept.open = kept.open.saturating_sub(1);
    kept.skipped += 1;
}

/// A binding that is counted only as far as it has been served comes to an entry that is meant for it.
pub(crate) fn come_to(log: &mut Log, place: usize, slot: u32, binding: &Binding) {
    let base = log.owing.base(slot, binding);
    let Some(kept) = log.tail.entries.get_mut(place).filter(|kept| kept.bseq > base) else { return };
    let standing = log.owing.standing(kept, slot, binding);
    count_in(kept, standing);
}

/// A binding goes back to an earlier place: if it is counted only as far as it has been served, to there. What it is served anew is
/// chosen by where its device is now.
pub(crate) fn go_back(tags: &Tags, log: &mut Log, slot: u32, binding: &Binding, to: u64) {
    let from = log.owing.base(slot, binding).max(to);
    if log.deep.contains(slot) {
        meant(tags, log, (slot, binding), (from, log.counted(slot, binding)), count_out);
        log.owing.unmove(slot, to);
        return;
    }
    let through = log.owing.moved_through(slot);
    if through > to {
        meant(tags, log, (slot, binding), (from, through), count_out);
        for bseq in log.owing.skips_in(slot, (from, through)).into_keys() {
            log.owing.skips.remove(&(slot, bseq));
        }
        log.owing.unmove(slot, to);
        meant(tags, log, (slot, binding), (from, through), count_in);
    }
}

/// A binding has reached the tail: from here on it is counted like the others.
pub(crate) fn surface(tags: &Tags, log: &mut Log, slot: u32, binding: &Binding) {
    if log.deep.remove(slot) {
        let span = (log.owing.base(slot, binding).max(binding.cursor), log.counted(slot, binding));
        meant(tags, log, (slot, binding), span, count_in);
    }
}

impl App {
    /// A binding has come: it is counted, and served if it lags.
    pub(crate) fn join(&mut self, slot: u32, binding: &Binding, owed: Vec<Credit>) {
        let Self { tags, log, .. } = self;
        if !owed.is_empty() {
            let through = binding.bsaved.max(owed.last().map_or(0, |credit| credit.bseq));
            log.owing.owe(slot, Before { through, credits: owed });
        }
        if let Some(opening) = &mut log.opening {
            opening.come_late(slot);
        }
        if binding.cursor < log.tail.covered {
            log.deep.insert(slot);
        }
        let counted = log.counted(slot, binding);
        if binding.cursor.max(binding.bsaved).max(binding.backed) > counted {
            log.ahead.insert(slot);
        }
        let span = (log.owing.base(slot, binding), counted);
        meant(tags, log, (slot, binding), span, count_in);
        if binding.cursor < log.opened.max(counted) {
            log.lag(slot);
        }
    }

    /// A binding goes: it is counted no more here.
    pub(crate) fn part(&mut self, slot: u32, binding: &Binding) {
        let span = (self.log.owing.base(slot, binding), self.log.counted(slot, binding));
        meant(&self.tags, &mut self.log, (slot, binding), span, count_out);
        self.log.owing.forget(slot);
    }

    /// The device has acked up to `now`, with which it was done at `done_ms`; the binding's own number still says what it was before.
    pub(crate) fn ack(&mut self, slot: u32, binding: &Binding, now: u64, done_ms: u64) {
        let Self { tags, log, .. } = self;
        let after = binding.backed.max(log.owing.base(slot, binding));
        let span = (after, now.min(log.counted(slot, binding)));
        let Log { tail, owing, speeds, .. } = log;
        meant_of(tags, &mut tail.entries, owing, (slot, binding), span, |kept, standing| {
            if standing == Standing::Open && !kept.stillborn {
                kept.open = kept.open.saturating_sub(1);
                kept.acked += 1;
                kept.acks += 1;
                // When it was done with those before is not known: an ack waits for others to join it.
                if kept.bseq == now {
                    speeds.acked(kept.id, slot, kept.bseq, done_ms);
                }
            }
        });
    }

    /// What is to be counted for a binding when the archive keeps `cursor`.
    pub(crate) fn credits(&mut self, slot: u32, binding: &Binding, cursor: u64) -> Vec<Credit> {
        let Self { tags, log, .. } = self;
        let before = log.owing.before.get(&slot).map_or(&[][..], |before| &before.credits);
        let mut credits: Vec<Credit> =
            before.iter().filter(|credit| credit.bseq <= cursor).copied().collect();
        let span = (log.owing.base(slot, binding), cursor.min(log.counted(slot, binding)));
        meant(tags, log, (slot, binding), span, |kept, standing| {
            let fate = match standing {
                Standing::Acked => Fate::Acked,
                Standing::Skipped(fate) => fate,
                // It was never sent.
                Standing::Open => fate(kept),
            };
            credits.push(Credit { bseq: kept.bseq, id: MessageId(kept.id), fate });
        });
        credits
    }

    /// Whether something is owed from before.
    pub(crate) fn owes_before(&self, slot: u32) -> bool {
        self.log.owing.before.contains_key(&slot)
    }

    /// The archive has kept a cursor, and counted.
    pub(crate) fn settle(&mut self, slot: u32, binding: &Binding, kept: u64) {
        let span = (self.log.owing.base(slot, binding), kept.min(self.log.counted(slot, binding)));
        meant(&self.tags, &mut self.log, (slot, binding), span, count_out);
        self.log.owing.settle(slot, kept);
    }

    /// A binding's device is elsewhere now: what it has not been served is judged by that, and the rest by where it was, whether
    /// the device has acked it or not.
    pub(crate) fn move_device(&mut self, slot: u32, binding: &mut Binding, network: u8, offset: Offset) {
        if (binding.network, binding.offset) == (network, offset) {
            return;
        }
        let reached = self.log.reached(slot, binding.cursor);
        let through = if binding.backed >= binding.bsent { reached } else { binding.backed };
        let mut credits = self.credits(slot, binding, through);
        self.log.owing.forgotten += credits.len().saturating_sub(MAX_OWED) as u64;
        credits.truncate(MAX_OWED);
        let span =
            (self.log.owing.base(slot, binding).max(through), reached.min(self.log.counted(slot, binding)));
        let had = self.meant_in(slot, binding, span);
        let skips = self.log.owing.skips_in(slot, span);
        self.part(slot, binding);
        self.change(slot, binding, network, offset);
        if had != self.meant_in(slot, binding, span) {
            self.log.owing.note_moved(slot, span.1, had);
        }
        self.log.owing.skips.extend(skips.iter().map(|(bseq, fate)| ((slot, *bseq), *fate)));
        if credits.is_empty() {
            // There is nothing to count up to there, also where the archive has not been told of the place.
            binding.bsaved = binding.bsaved.max(through);
        } else {
            self.log.owing.owe(slot, Before { through, credits });
        }
        if let Some(opening) = &mut self.log.opening {
            opening.come_late(slot);
        }
        binding.cursor = reached;
        let counted = self.log.counted(slot, binding);
        let span = (self.log.owing.base(slot, binding), counted);
        // Of an entry that nobody else was passed over by, a standing does not show what is noted.
        meant(&self.tags, &mut self.log, (slot, binding), span, |kept, standing| {
            count_in(kept, skips.get(&kept.bseq).map_or(standing, |fate| Standing::Skipped(*fate)));
        });
        if reached < self.log.opened.max(counted) {
            self.log.go_back(slot);
        }
    }

    /// The entries in (after, through] that are meant for a binding.
    fn meant_in(&self, slot: u32, binding: &Binding, (after, through): (u64, u64)) -> Vec<u64> {
        let Self { tags, log, .. } = self;
        let first = log.tail.position_after(after);
        let span = log.tail.entries.range(first..).take_while(|kept| kept.bseq <= through);
        let meant = span.filter(|kept| log.owing.is_meant(tags, kept, slot, binding));
        meant.map(|kept| kept.bseq).collect()
    }
}
