//! How long to wait before trying again.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Exponential back-off with jitter and a cap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Bound of the wait after the first failure.
    pub initial: Duration,
    /// By how much the bound grows with each failure; below 1 counts as 1.
    pub factor: f64,
    /// The bound never grows over this.
    pub cap: Duration,
    /// Which part of the wait is random, 0.0 to 1.0. With 1.0 ("full jitter") a wait is anything from nothing to the
    /// bound, which spreads a crowd that failed together best.
    pub jitter: f64,
}

impl Backoff {
    /// Full jitter, doubling from `initial` up to `cap`.
    #[must_use]
    pub const fn full_jitter(initial: Duration, cap: Duration) -> Self {
        Self { initial, factor: 2.0, cap, jitter: 1.0 }
    }

    /// The wait after failure number `attempt` (the first is 0).
    pub fn delay<R: Rng + ?Sized>(&self, attempt: u32, rng: &mut R) -> Duration {
        let bound = self.bound(attempt);
        let jitter = self.jitter.clamp(0.0, 1.0);
        let part = 1.0 - jitter * rng.random::<f64>();
        bound.mul_f64(part)
    }

    /// The longest that [`Backoff::delay`] may answer for `attempt`.
    #[must_use]
    pub fn bound(&self, attempt: u32) -> Duration {
        // Past 2^63 every sane cap has been reached; a larger exponent only loses precision.
        let exponent = i32::try_from(attempt.min(63)).unwrap_or(63);
        let grown = self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        if grown >= self.cap.as_secs_f64() { self.cap } else { Duration::from_secs_f64(grown) }
    }
}

impl Default for Backoff {
    /// 50 ms doubling to 2 s: a peer that restarts is back within a few tries, and one that is overloaded
    /// is left alone for long enough to recover.
    fn default() -> Self {
        Self::full_jitter(Duration::from_millis(50), Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    #[test]
    fn bound_doubles_up_to_the_cap() {
        let b = Backoff::full_jitter(Duration::from_millis(50), Duration::from_millis(300));
        let bounds: Vec<_> = (0..5).map(|n| b.bound(n).as_millis()).collect();
        assert_eq!(bounds, [50, 100, 200, 300, 300]);
        assert_eq!(b.bound(u32::MAX), b.cap);
    }

    #[test]
    fn full_jitter_spreads_over_the_whole_range() {
        let b = Backoff::full_jitter(Duration::from_secs(1), Duration::from_secs(1));
        let mut rng = StdRng::seed_from_u64(7);
        let delays: Vec<_> = (0..1000).map(|_| b.delay(3, &mut rng)).collect();
        assert!(delays.iter().any(|d| *d < Duration::from_millis(50)));
        assert!(delays.iter().any(|d| *d > Duration::from_millis(950)));
    }

    proptest! {
        #[test]
        fn delay_keeps_its_promises(attempt: u32, seed: u64, jitter in 0.0..1.0f64, factor in 0.0..10.0f64,
                                    initial in 0u64..10_000, cap in 0u64..10_000) {
            let b = Backoff { initial: Duration::from_millis(initial), factor, cap: Duration::from_millis(cap), jitter };
            let bound = b.bound(attempt);
            let delay = b.delay(attempt, &mut StdRng::seed_from_u64(seed));
            prop_assert!(bound <= b.cap);
            prop_assert!(delay <= bound);
            // A nanosecond of slack for the rounding of the float product.
            prop_assert!(delay + Duration::from_nanos(1) >= bound.mul_f64(1.0 - jitter));
        }
    }
}
