//! Choosing whom new broadcasts are meant for, before any is sent. For the whole ring that is set algebra over bitmaps. Of
//! slices every candidate's place has to be looked at: all slices that are known go in one round over the candidates, and the
//! round goes in bounded steps, so that a slice every 250 ms costs a thread with a million bindings a few hundredths of its
//! time and holds nothing up.

use std::sync::Arc;

use roaring::RoaringBitmap;
use slab::Slab;

use super::{
    apps::App,
    binding::Binding,
    log::{Log, PASS_ENTRIES},
    tail::Kept,
};
use crate::clock::Now;

/// Slices that one round chooses for.
const ROUND_SLICES: usize = 1_024;
/// Audiences that they may be of; each is one more bitmap to look into.
const ROUND_AUDIENCES: usize = 16;
/// Members for which one operation on bitmaps takes as long as a look at one binding, about 20 ns.
const MEMBERS_PER_LOOK: u64 = 1_000;

/// One round over the candidates of slices.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The last of the entries.
    to: u64,
    entries: usize,
    groups: Vec<Group>,
    /// Who is still to be looked at.
    candidates: RoaringBitmap,
    /// Who is to be sent one of them. They are of no pass before the round is over: whom a pass meets it leaves behind at what
    /// had been opened by then.
    chosen: RoaringBitmap,
    /// All slots below have been looked at.
    met: u32,
    /// Those who have come since.
    late: RoaringBitmap,
}

/// Slices that do not overlap, for one audience.
#[derive(Debug)]
struct Group {
    id: u64,
    targets: RoaringBitmap,
    /// First and last place, number of the entry, and whether it is still sent; by place.
    slices: Vec<(u32, u32, u64, bool)>,
}

impl Group {
    fn find(&self, place: u32) -> Option<(u64, bool)> {
        let next = self.slices.partition_point(|(from, ..)| *from <= place);
        let (_, last, bseq, lives) = self.slices.get(next.checked_sub(1)?)?;
        (place <= *last).then_some((*bseq, *lives))
    }
}

impl Opening {
    /// How far a slot is counted, if it has been met.
    pub(crate) fn has_met(&self, slot: u32) -> Option<u64> {
        (slot < self.met || self.late.contains(slot)).then_some(self.to)
    }

    /// A binding has come: it is counted by itself, and looked at when its turn to be sent something comes.
    pub(crate) fn come_late(&mut self, slot: u32) {
        self.late.insert(slot);
        self.candidates.remove(slot);
        self.chosen.insert(slot);
        // As of two entries: not each target is known to be meant.
        self.entries = self.entries.max(2);
    }

    pub(crate) fn forget(&mut self, slot: u32) {
        self.late.remove(slot);
        self.candidates.remove(slot);
        self.chosen.remove(slot);
    }
}

impl App {
    /// Chooses targets, with at most `looks` looks at bindings, until there is enough for a pass. Gives how many were left.
    pub(crate) fn open(&mut self, bindings: &Slab<Binding>, mut looks: usize, now: Now) -> usize {
        while looks > 0 && self.log.tail.known > self.log.opened {
            if self.log.opening.is_some() {
                looks = self.go_on_opening(bindings, looks);
                continue;
            }
            if self.log.next_entries.0 >= PASS_ENTRIES {
                break;
            }
            let place = self.log.position_after(self.log.opened);
            let cost = match self.log.tail.entries.get(place) {
                // The rest of the numbers hold nothing.
                None => {
                    self.log.opened = self.log.tail.known;
                    break;
                }
                Some(kept) if kept.slice.is_whole() => self.open_whole(place, bindings, now),
                Some(_) => self.begin_opening(place, now),
            };
            looks = looks.saturating_sub(cost);
        }
        looks
    }

    fn cost(&self, kept: &Kept) -> usize {
        let terms = kept.meant.audience.terms() + if kept.meant.filter.is_everyone() { 0 } else { 8 };
        (terms + 1) * (1 + (self.members.len() / MEMBERS_PER_LOOK) as usize)
    }

    fn open_whole(&mut self, place: usize, bindings: &Slab<Binding>, now: Now) -> usize {
        let cost = self.cost(&self.log.tail.entries[place]);
        let targets = self.tags.select(&self.members, &self.log.tail.entries[place].meant).into_owned();
        let log = &mut self.log;
        let kept = &mut log.tail.entries[place];
        // Those who are not at the tail yet are counted as they come to it.
        let counted = targets.len() - targets.intersection_len(&log.deep);
        kept.open = u32::try_from(counted).unwrap_or(u32::MAX);
        for slot in log.ahead.iter().filter(|slot| targets.contains(**slot) && !log.deep.contains(**slot)) {
            let Some(binding) = bindings.get(*slot as usize) else { continue };
            if binding.bsaved.max(binding.backed) >= kept.bseq {
                kept.open -= 1;
                kept.acked += u32::from(binding.bsaved < kept.bseq);
            }
        }
        kept.stillborn = kept.is_dead(now.unix_ms);
        let bseq = kept.bseq;
        if !kept.stillborn {
            log.next |= targets;
            log.next_entries = (log.next_entries.0 + 1, bseq);
        }
        log.advance(bseq, bindings);
        cost
    }

    fn begin_opening(&mut self, place: usize, now: Now) -> usize {
        let (mut groups, mut candidates): (Vec<Group>, _) = (Vec::new(), RoaringBitmap::new());
        let (mut to, mut entries, mut cost) = (0, 0, 1);
        let mut meants: Vec<Arc<crate::exchange::Meant>> = Vec::new();
        for index in place..self.log.tail.entries.len().min(place + ROUND_SLICES) {
            let kept = &self.log.tail.entries[index];
            if kept.slice.is_whole() {
                break;
            }
            let (places, bseq) = (kept.slice.places(), kept.bseq);
            let (from, last) = (*places.start(), *places.end());
            let stillborn = kept.is_dead(now.unix_ms);
            let known = groups.iter().position(|group| group.id == kept.id).filter(|known| {
                let next = groups[*known].slices.partition_point(|(other, ..)| *other <= from);
                let free = next.checked_sub(1).is_none_or(|before| groups[*known].slices[before].1 < from);
                let ends = groups[*known].slices.get(next).is_none_or(|(other, ..)| last < *other);
                Arc::ptr_eq(&meants[*known], &kept.meant) && free && ends
            });
            let group = match known {
                Some(known) => known,
                None if groups.len() >= ROUND_AUDIENCES => break,
                None => {
                    cost += self.cost(kept);
                    let targets = self.select(&kept.meant);
                    candidates |= &targets;
                    groups.push(Group { id: kept.id, targets, slices: Vec::new() });
                    meants.push(Arc::clone(&kept.meant));
                    groups.len() - 1
                }
            };
            let slices = &mut groups[group].slices;
            let at = slices.partition_point(|(other, ..)| *other <= from);
            slices.insert(at, (from, last, bseq, !stillborn));
            self.log.tail.entries[index].stillborn = stillborn;
            (to, entries) = (bseq, entries + 1);
        }
        let (chosen, late) = (RoaringBitmap::new(), RoaringBitmap::new());
        self.log.opening = Some(Opening { to, entries, groups, candidates, chosen, met: 0, late });
        cost
    }

    fn go_on_opening(&mut self, bindings: &Slab<Binding>, looks: usize) -> usize {
        let log = &mut self.log;
        let Some(mut opening) = log.opening.take() else { return looks };
        let slots: Vec<u32> = opening.candidates.iter().take(looks).collect();
        opening.candidates.remove_smallest(slots.len() as u64);
        let alone = opening.groups.len() == 1;
        for slot in &slots {
            let Some(binding) = bindings.get(*slot as usize) else { continue };
            for group in &opening.groups {
                let Some((bseq, lives)) = group.find(binding.place) else { continue };
                if binding.bsaved >= bseq || !(alone || group.targets.contains(*slot)) {
                    continue;
                }
                let place = log.position_after(bseq - 1);
                let kept = &mut log.tail.entries[place];
                if log.deep.contains(*slot) {
                    // It is counted when it comes to the tail.
                } else if binding.backed >= bseq && !kept.stillborn {
                    kept.acked += 1;
                } else {
                    kept.open += 1;
                }
                if lives {
                    opening.chosen.insert(*slot);
                }
            }
        }
        opening.met = slots.last().map_or(opening.met, |slot| slot + 1);
        if opening.candidates.is_empty() {
            log.next |= opening.chosen;
            log.next_entries = (log.next_entries.0 + opening.entries, opening.to);
            log.advance(opening.to, bindings);
        } else {
            log.opening = Some(opening);
        }
        // A round over nobody is a look too.
        looks - slots.len().max(1).min(looks)
    }
}

impl Log {
    fn advance(&mut self, to: u64, bindings: &Slab<Binding>) {
        self.opened = to;
        if !self.ahead.is_empty() {
            let is_ahead = |slot: &u32| {
                let is_further = |one: &Binding| one.cursor.max(one.bsaved).max(one.backed) > to;
                bindings.get(*slot as usize).is_some_and(is_further)
            };
            self.ahead.retain(is_ahead);
        }
    }
}
