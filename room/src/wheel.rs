//! One coarse timer wheel for all connections of a thread.
//!
//! A connection has one entry at a time and no handle to it: when the entry comes up, the owner looks what the
//! connection's deadline really is by then and puts it back if that is still ahead. So a heartbeat, by far the most
//! frequent event, only writes a time into the session and never touches the wheel.

use crate::exchange::ConnKey;

/// Width of a slot. A quarter of a second is fine for time-outs of seconds.
pub const TICK_MS: u64 = 250;
/// 2,048 slots reach 8.5 minutes, past the longest common heartbeat; what lies further comes up early and goes back.
const SLOTS: u64 = 2_048;

/// Entries by the tick at which they come up. 8 bytes an entry; an empty slot holds no buffer.
#[derive(Debug)]
pub struct Wheel {
    slots: Box<[Vec<ConnKey>]>,
    /// What has come up at `tick` and has not been taken out.
    due: Vec<ConnKey>,
    /// The last tick that has been begun.
    tick: u64,
    len: usize,
}

impl Wheel {
    /// An empty wheel that begins at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, due: Vec::new(), tick: now_ms / TICK_MS, len: 0 }
    }

    /// Puts a connection in, to come up at `deadline_ms` or up to a tick later; earlier only if it lies beyond the
    /// wheel's reach.
    ///
    /// Gives the tick at which it comes up, as [`Wheel::tick`] will then say: an owner that puts a connection in again before
    /// its entry has come up tells by it which of the two counts.
    pub fn schedule(&mut self, conn: ConnKey, deadline_ms: u64) -> u16 {
        let tick = deadline_ms.div_ceil(TICK_MS).clamp(self.tick + 1, self.tick + SLOTS - 1);
        self.slots[(tick % SLOTS) as usize].push(conn);
        self.len += 1;
        tick as u16
    }

    /// Takes out one entry that has come up by `now_ms`; call it until `None`, or go on later: a hundred thousand may come up
    /// at once. [`Wheel::tick`] is that of the entry.
    pub fn expire(&mut self, now_ms: u64) -> Option<ConnKey> {
        loop {
            if let Some(conn) = self.due.pop() {
                self.len -= 1;
                return Some(conn);
            }
            if self.tick >= now_ms / TICK_MS {
                // A crowd that came up together leaves no buffer behind.
                self.due = Vec::new();
                return None;
            }
            self.tick += 1;
            self.due = std::mem::take(&mut self.slots[(self.tick % SLOTS) as usize]);
        }
    }

    /// The last tick that has come up. Its lower bits: all entries lie within far fewer ticks than those can tell apart.
    pub fn tick(&self) -> u16 {
        self.tick as u16
    }

    /// Whether an entry that comes up at the tick `due` is still to do so, and does so by `deadline_ms`.
    pub fn comes_up_by(&self, due: u16, deadline_ms: u64) -> bool {
        let ahead = u64::from(due.wrapping_sub(self.tick()));
        (1..SLOTS).contains(&ahead) && self.tick + ahead <= deadline_ms.div_ceil(TICK_MS)
    }

    /// Entries, those of connections that are gone included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the slots and of what is in them.
    pub fn bytes(&self) -> usize {
        let entries = self.slots.iter().map(Vec::capacity).sum::<usize>() + self.due.capacity();
        entries * size_of::<ConnKey>() + self.slots.len() * size_of::<Vec<ConnKey>>()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(slot: u32) -> ConnKey {
        ConnKey { slot, generation: 1 }
    }

    fn all(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.expire(now_ms)).map(|conn| conn.slot).collect()
    }

    #[test]
    fn comes_up_at_its_tick_and_not_before() {
        let mut wheel = Wheel::new(10_000);
        wheel.schedule(key(1), 11_001);
        wheel.schedule(key(2), 0);
        assert!(all(&mut wheel, 10_249).is_empty());
        assert_eq!(all(&mut wheel, 10_250), [2], "what is overdue comes up at the next tick");
        assert!(all(&mut wheel, 11_249).is_empty());
        assert_eq!(all(&mut wheel, 11_250), [1]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn an_entry_that_comes_early_enough_needs_no_other() {
        let mut wheel = Wheel::new(u64::from(u16::MAX) * TICK_MS);
        let at = |ticks: u64| (u64::from(u16::MAX) + ticks) * TICK_MS;
        let due = wheel.schedule(key(1), at(10));
        assert!(wheel.comes_up_by(due, at(10)) && wheel.comes_up_by(due, at(9_000)));
        assert!(!wheel.comes_up_by(due, at(9)), "too late for this");
        assert_eq!(all(&mut wheel, at(10)), [1]);
        assert_eq!(wheel.tick(), due);
        assert!(!wheel.comes_up_by(due, at(9_000)), "it has come up");
    }

    #[test]
    fn far_deadlines_come_up_early_to_be_put_back() {
        let mut wheel = Wheel::new(0);
        let far = 3 * SLOTS * TICK_MS;
        wheel.schedule(key(7), far);
        let mut turns = 0;
        for now in (0..=far).step_by(TICK_MS as usize) {
            for conn in std::iter::from_fn(|| wheel.expire(now)).collect::<Vec<_>>() {
                turns += 1;
                if now < far {
                    wheel.schedule(conn, far);
                }
            }
        }
        assert!(wheel.is_empty());
        assert_eq!(turns, 4);
    }

    proptest! {
        #[test]
        fn every_entry_comes_up_once_and_in_time(
            deadlines in prop::collection::vec(0u64..400_000, 0..100),
            step in 1u64..5_000,
        ) {
            let mut wheel = Wheel::new(0);
            for (slot, deadline) in deadlines.iter().enumerate() {
                wheel.schedule(key(slot as u32), *deadline);
            }
            let mut seen = vec![0; deadlines.len()];
            let mut now = 0;
            while !wheel.is_empty() {
                now += step;
                for slot in all(&mut wheel, now) {
                    let deadline = deadlines[slot as usize];
                    prop_assert!(now >= deadline.min(TICK_MS));
                    prop_assert!(now < deadline.max(1) + 2 * TICK_MS + step);
                    seen[slot as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
