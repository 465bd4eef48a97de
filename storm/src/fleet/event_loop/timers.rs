//! When to look at which device. Most of what is waited for comes within seconds (acks, connects, pauses) and is kept in a wheel:
//! putting in and taking out is a push and a pop at the end of a short list, where a heap of ten thousand costs a dozen
//! cache misses. What lies further, heartbeats, is in a heap.

use std::{cmp::Reverse, collections::BinaryHeap};

use client::Moment;

/// Width of a slot, ms; what is due comes up by so much late at most.
const TICK: u64 = 4;
/// Slots of the wheel: it reaches eight seconds, past the longest wait of an ack.
const SLOTS: u64 = 2_048;

/// A moment, and the device that waits for it.
type Entry = (Moment, u32);

/// Entries by their moments. None is ever taken out early: the owner tells by the moment whether an entry still counts.
pub(super) struct Timers {
    slots: Box<[Vec<Entry>]>,
    /// A bit for each slot that holds something.
    held: [u64; (SLOTS / 64) as usize],
    /// What has come up and has not been taken.
    due: Vec<Entry>,
    /// The last tick that has come up.
    tick: u64,
    far: BinaryHeap<Reverse<Entry>>,
}

impl Timers {
    /// None, from the moment 0 on.
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            held: [0; (SLOTS / 64) as usize],
            due: Vec::new(),
            tick: 0,
            far: BinaryHeap::new(),
        }
    }

    pub(super) fn push(&mut self, at: Moment, device: u32) {
        let tick = at.0.div_ceil(TICK).max(self.tick + 1);
        if tick - self.tick >= SLOTS {
            return self.far.push(Reverse((at, device)));
        }
        let slot = tick % SLOTS;
        self.slots[slot as usize].push((at, device));
        self.held[(slot / 64) as usize] |= 1 << (slot % 64);
    }

    /// Takes one entry that has come up; to be called until there is none.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Entry> {
        loop {
            if let Some(entry) = self.due.pop() {
                return Some(entry);
            }
            if self.far.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                return self.far.pop().map(|Reverse(entry)| entry);
            }
            let tick = self.next_tick().filter(|tick| *tick <= now.0 / TICK);
            // Nothing lies before it.
            self.tick = self.tick.max(tick.unwrap_or(now.0 / TICK));
            let slot = tick? % SLOTS;
            self.held[(slot / 64) as usize] &= !(1 << (slot % 64));
            self.due = std::mem::take(&mut self.slots[slot as usize]);
        }
    }

    /// When something comes up next.
    pub(super) fn next_at(&self) -> Option<Moment> {
        let near = self.next_tick().map(|tick| Moment(tick * TICK));
        let far = self.far.peek().map(|Reverse((at, _))| *at);
        near.into_iter().chain(far).min()
    }

    /// The first tick that holds something.
    fn next_tick(&self) -> Option<u64> {
        let from = (self.tick + 1) % SLOTS;
        let words = self.held.len() as u64;
        // The first word again at the end, for what of it lies before `from`.
        let ahead = (0..=words).find_map(|n| {
            let word = (from / 64 + n) % words;
            let mask = match n {
                0 => u64::MAX << (from % 64),
                _ if n == words => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let bits = self.held[word as usize] & mask;
            (bits != 0).then(|| (word * 64 + u64::from(bits.trailing_zeros()) + SLOTS - from) % SLOTS)
        })?;
        Some(self.tick + 1 + ahead)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(timers: &mut Timers, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| timers.pop(Moment(now))).map(|(at, _)| at.0).collect()
    }

    #[test]
    fn what_is_overdue_comes_up_at_the_next_tick() {
        let mut timers = Timers::new();
        assert_eq!((timers.next_at(), all(&mut timers, 1_000)), (None, vec![]));
        timers.push(Moment(7), 1);
        assert_eq!(timers.next_at(), Some(Moment(1_004)));
        assert!(all(&mut timers, 1_003).is_empty());
        assert_eq!(all(&mut timers, 1_004), [7]);
    }

    proptest! {
        #[test]
        fn each_comes_up_once_in_time_and_is_announced(
            turns in prop::collection::vec((0u64..9_000, prop::collection::vec(0u64..400_000, 0..8)), 1..60),
        ) {
            let (mut timers, mut now, mut waiting) = (Timers::new(), 0, vec![]);
            for (step, pushed) in turns {
                for wait in pushed {
                    timers.push(Moment(now + wait), 0);
                    waiting.push(now + wait);
                }
                let next = timers.next_at().map(|at| at.0);
                let least = waiting.iter().min().copied();
                prop_assert_eq!(next.is_some(), least.is_some());
                if let (Some(next), Some(least)) = (next, least) {
                    prop_assert!(next >= least && next <= least.max(now) + TICK, "{} for {}", next, least);
                }
                now += step;
                let came = all(&mut timers, now);
                prop_assert!(came.iter().all(|at| *at <= now), "too early");
                for at in came {
                    let place = waiting.iter().position(|one| *one == at);
                    prop_assert!(place.is_some(), "twice");
                    waiting.swap_remove(place.unwrap());
                }
                prop_assert!(waiting.iter().all(|at| at + TICK > now), "{waiting:?} at {now}");
            }
        }
    }
}
