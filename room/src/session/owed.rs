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

impl Owing {
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
        // The ring first: of the slices of a job each binding is on one.
        if kept.slice.contains(binding.place) && tags.matches(&kept.meant, slot, binding) {
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

/// A binding goes back to an earlier place: if it is counted only as far as it has been served, to there.
pub(crate) fn go_back(tags: &Tags, log: &mut Log, slot: u32, binding: &Binding, to: u64) {
    if log.deep.contains(slot) {
        let span = (log.owing.base(slot, binding).max(to), log.counted(slot, binding));
        meant(tags, log, (slot, binding), span, count_out);
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

    /// The device has acked up to `now`; the binding's own number still says what it was before.
    pub(crate) fn ack(&mut self, slot: u32, binding: &Binding, now: u64, now_ms: u64) {
        let Self { tags, log, .. } = self;
        let after = binding.backed.max(log.owing.base(slot, binding));
        let span = (after, now.min(log.counted(slot, binding)));
        let Log { tail, owing, speeds, .. } = log;
        meant_of(tags, &mut tail.entries, owing, (slot, binding), span, |kept, standing| {
            if standing == Standing::Open && !kept.stillborn {
                kept.open = kept.open.saturating_sub(1);
                kept.acked += 1;
                kept.acks += 1;
                speeds.acked(kept.id, slot, kept.bseq, now_ms);
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

    /// A binding's device is elsewhere now: what it has not been served is judged by that, and the rest by where it was.
    pub(crate) fn move_device(&mut self, slot: u32, binding: &mut Binding, network: u8, offset: Offset) {
        if (binding.network, binding.offset) == (network, offset) {
            return;
        }
        let reached = self.log.reached(slot, binding.cursor);
        // What was sent and not acked counts by where the device is when it acks.
        let through = if binding.backed >= binding.bsent { reached } else { binding.backed };
        let mut credits = self.credits(slot, binding, through);
        credits.truncate(MAX_OWED);
        self.part(slot, binding);
        self.change(slot, binding, network, offset);
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
        meant(&self.tags, &mut self.log, (slot, binding), span, count_in);
        if reached < self.log.opened.max(counted) {
            self.log.go_back(slot);
        }
    }
}
