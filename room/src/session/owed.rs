//! What the archive has not been told: what became of each broadcast for each binding, counted per entry and never asked of all
//! bindings. A binding *stands* in one of three ways to an entry that is meant for it and lies between the cursor that the
//! archive has and the place up to which it is counted; the entry counts each. How it stands follows from the binding's own
//! numbers, but for those who were passed over because the entry was dead, which are noted here until the archive knows.

use std::collections::VecDeque;

use wire::id::MessageId;

use super::{
    apps::{App, Tags},
    binding::Binding,
    log::Log,
    tail::Kept,
};
use crate::exchange::{Credit, Fate};

mod moving;
mod owing;

pub(crate) use owing::Owing;

use self::owing::{Before, MAX_SKIPS, Standing};

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
}
