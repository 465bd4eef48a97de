//! Rates: token buckets of eight bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// One second, in the unit of time here.
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// A token bucket that holds one second's worth, written as the time at which it will be full again (the "generic cell
/// rate algorithm"): one number instead of a count and a clock, so it fits into an entry of a table, or an atomic. Times
/// are ns since some beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    interval_ns: u64,
}

impl Rate {
    /// So many a second, at least one.
    pub(super) fn per_second(rate: u32) -> Self {
        Self { interval_ns: SECOND_NS / u64::from(rate.max(1)) }
    }

    /// Takes a token off a bucket that is full at `full_ns`: when it is full then. `None`: there is no token.
    pub(super) fn take(self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let full_ns = full_ns.max(now_ns) + self.interval_ns;
        (full_ns - now_ns <= SECOND_NS).then_some(full_ns)
    }

    /// Puts a token back.
    pub(super) fn give_back(self, full_ns: u64) -> u64 {
        full_ns.saturating_sub(self.interval_ns)
    }

    /// Takes a token off a bucket of all threads; `false`: there is none.
    pub(super) fn take_shared(self, full: &AtomicU64, now_ns: u64) -> bool {
        full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_ns| self.take(full_ns, now_ns)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(rate: Rate, full: &mut u64, now_ns: u64) -> usize {
        let mut count = 0;
        while let Some(next) = rate.take(*full, now_ns) {
            *full = next;
            count += 1;
        }
        count
    }

    #[test]
    fn a_second_may_be_saved_up_and_no_more() {
        let (rate, mut full) = (Rate::per_second(10), 0);
        assert_eq!(taken(rate, &mut full, 0), 10);
        assert_eq!(taken(rate, &mut full, SECOND_NS / 2), 5);
        assert_eq!(taken(rate, &mut full, 100 * SECOND_NS), 10);
        full = rate.give_back(full);
        assert_eq!(taken(rate, &mut full, 100 * SECOND_NS), 1);
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let (rate, mut full) = (Rate::per_second(1), 0);
        let count = (0..100).map(|tenth| taken(rate, &mut full, tenth * SECOND_NS / 10)).sum::<usize>();
        assert_eq!(count, 10);
    }

    #[test]
    fn threads_share_one() {
        let (rate, full) = (Rate::per_second(1_000), AtomicU64::new(0));
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1_000).filter(|_| rate.take_shared(&full, 0)).count();
            let all: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    proptest! {
        #[test]
        fn never_more_than_a_second_and_the_rate(
            per_second in 1u32..5_000,
            steps in prop::collection::vec((0u64..2_000_000_000, 1usize..50), 1..50),
        ) {
            let (rate, mut full, mut now, mut all) = (Rate::per_second(per_second), 0, 0, 0);
            for (step, most) in steps {
                now += step;
                for _ in 0..most {
                    if let Some(next) = rate.take(full, now) {
                        full = next;
                        all += 1;
                    }
                }
                let allowed = f64::from(per_second) * (1.0 + now as f64 / SECOND_NS as f64) * 1.001 + 1.0;
                prop_assert!(f64::from(all) <= allowed, "{all} of {allowed}");
            }
        }
    }
}
