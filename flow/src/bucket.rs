//! A limit on a rate.

use std::time::{Duration, Instant};

/// A token bucket without a clock: `now` is passed in.
///
/// A request larger than the burst is let through when the bucket is full and leaves it in debt: it is paid for
/// by those who come after, instead of never being possible.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket: `rate` tokens a second, at most `burst` saved up (both at least 1 token's worth to be of use).
    #[must_use]
    pub fn new(rate: f64, burst: f64, now: Instant) -> Self {
        let burst = burst.max(1.0);
        Self { rate: rate.max(f64::MIN_POSITIVE), burst, tokens: burst, at: now }
    }

    /// Takes `n` tokens, or answers after how long it may be tried again.
    ///
    /// # Errors
    /// The wait after which the same request would have succeeded, had nobody else taken anything.
    pub fn take(&mut self, now: Instant, n: u32) -> Result<(), Duration> {
        self.refill(now);
        let n = f64::from(n);
        let missing = n.min(self.burst) - self.tokens;
        // A millionth of a token of slack: the wait that was answered is rounded to nanoseconds.
        if missing > 1e-6 {
            return Err(Duration::try_from_secs_f64(missing / self.rate).unwrap_or(Duration::MAX));
        }
        self.tokens -= n;
        Ok(())
    }

    /// Changes rate and burst and keeps what is saved up (at most the new burst).
    pub fn set(&mut self, now: Instant, rate: f64, burst: f64) {
        self.refill(now);
        self.rate = rate.max(f64::MIN_POSITIVE);
        self.burst = burst.max(1.0);
        self.tokens = self.tokens.min(self.burst);
    }

    /// Whether nothing has been taken lately: such a bucket may be forgotten, a new one is the same.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.burst
    }

    fn refill(&mut self, now: Instant) {
        // A `now` of another thread may be a little older than one seen before; that refills nothing.
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn burst_then_rate() {
        let t0 = Instant::now();
        let mut b = TokenBucket::new(10.0, 5.0, t0);
        assert_eq!(b.take(t0, 5), Ok(()));
        let wait = b.take(t0, 1).expect_err("empty");
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(b.take(t0 + wait, 1), Ok(()));
        assert!(b.take(t0 + wait, 1).is_err());
        assert!(b.is_full(t0 + Duration::from_secs(60)));
    }

    #[test]
    fn larger_than_burst_goes_into_debt() {
        let t0 = Instant::now();
        let mut b = TokenBucket::new(10.0, 5.0, t0);
        assert_eq!(b.take(t0, 25), Ok(()));
        // 20 in debt: one token is there after 21 / 10 s.
        assert_eq!(b.take(t0, 1), Err(Duration::from_millis(2100)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let t0 = Instant::now();
        let later = t0 + Duration::from_secs(10);
        let mut b = TokenBucket::new(1.0, 1.0, later);
        assert_eq!(b.take(later, 1), Ok(()));
        assert!(b.take(t0, 1).is_err());
        assert!(b.take(later, 1).is_err());
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(steps in prop::collection::vec((0u64..500, 1u32..4), 1..200)) {
            let t0 = Instant::now();
            let mut b = TokenBucket::new(20.0, 10.0, t0);
            let (mut now, mut taken) = (t0, 0.0);
            for (ms, n) in steps {
                now += Duration::from_millis(ms);
                match b.take(now, n) {
                    Ok(()) => taken += f64::from(n),
                    Err(wait) => {
                        let mut c = b.clone();
                        prop_assert_eq!(c.take(now + wait, n), Ok(()));
                    }
                }
                prop_assert!(taken <= 10.0 + 20.0 * (now - t0).as_secs_f64() + 0.01);
            }
        }
    }
}
