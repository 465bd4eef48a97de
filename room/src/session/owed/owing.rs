//! What is known of bindings beyond their own numbers: what was passed over for them, what they owe from before, and what they had
//! been served where their devices were.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::super::{apps::Tags, binding::Binding, tail::Kept};
use crate::exchange::{Credit, Fate};

/// Bindings that may be noted as passed over, of one app; more count as acked when they ack something later. 2 MB.
pub(super) const MAX_SKIPS: usize = 50_000;
/// What one binding may owe from before; more is told as far as it goes.
pub(super) const MAX_OWED: usize = 1_024;

/// How a binding stands to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Acked,
    Skipped(Fate),
    Open,
}

/// What is known of bindings beyond their numbers.
#[derive(Debug, Default)]
pub(crate) struct Owing {
    pub(super) skips: BTreeMap<(u32, u64), Fate>,
    pub(super) before: HashMap<u32, Before, RandomState>,
    moved: HashMap<u32, Moved, RandomState>,
    /// The credits of all these, by message: acked, expired, recalled.
    sums: HashMap<u64, [u64; 3], RandomState>,
    /// Bindings that could not be noted as passed over.
    pub(crate) forgotten: u64,
}

/// What a binding owes up to a place, whatever it is meant for now.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) through: u64,
    pub(super) credits: Vec<Credit>,
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
    pub(super) fn note_moved(&mut self, slot: u32, through: u64, mut had: Vec<u64>) {
        let surplus = had.len().saturating_sub(MAX_OWED);
        self.forgotten += surplus as u64;
        had.drain(..surplus);
        self.moved.insert(slot, Moved { through, had });
    }

    /// A binding is served anew from a place on, by where it is now.
    pub(super) fn unmove(&mut self, slot: u32, from: u64) {
        let Some(moved) = self.moved.get_mut(&slot) else { return };
        moved.through = moved.through.min(from);
        moved.had.retain(|bseq| *bseq <= from);
    }

    /// How far what a binding was served was chosen by where it is no more.
    pub(super) fn moved_through(&self, slot: u32) -> u64 {
        if self.moved.is_empty() { 0 } else { self.moved.get(&slot).map_or(0, |moved| moved.through) }
    }

    /// What is noted of a binding as passed over in (after, through].
    pub(super) fn skips_in(&self, slot: u32, (after, through): (u64, u64)) -> BTreeMap<u64, Fate> {
        if self.skips.is_empty() || through <= after {
            return BTreeMap::new();
        }
        self.skips
            .range((slot, after + 1)..=(slot, through))
            .map(|((_, bseq), fate)| (*bseq, *fate))
            .collect()
    }

    /// Notes what a binding owes.
    pub(super) fn owe(&mut self, slot: u32, before: Before) {
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

    pub(super) fn standing(&self, kept: &Kept, slot: u32, binding: &Binding) -> Standing {
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
    pub(super) fn base(&self, slot: u32, binding: &Binding) -> u64 {
        let before = if self.before.is_empty() { None } else { self.before.get(&slot) };
        before.map_or(binding.bsaved, |before| before.through.max(binding.bsaved))
    }

    /// A binding is over, or another uses its slot.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.settle(slot, u64::MAX);
    }

    /// The archive knows all up to a place.
    pub(super) fn settle(&mut self, slot: u32, through: u64) {
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
