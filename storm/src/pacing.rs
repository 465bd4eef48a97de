//! Events at a rate, without drift.

use std::time::{Duration, Instant};

/// An open-loop schedule: event k is meant to happen at start + k / rate, however late the events before it were.
/// Latencies counted from [`Pacer::intended`] therefore hold the time that a slow server made later events wait
/// (they are corrected for coordinated omission).
#[derive(Debug, Clone)]
pub struct Pacer {
    start: Instant,
    per_second: f64,
    taken: u64,
}

impl Pacer {
    /// The first event is due at `start`. A rate of 0 or less means never again after it.
    #[must_use]
    pub fn new(start: Instant, per_second: f64) -> Self {
        Self { start, per_second: per_second.max(f64::MIN_POSITIVE), taken: 0 }
    }

    /// How many events are due and not taken.
    #[must_use]
    pub fn due(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.start) else { return 0 };
        let total = (since.as_secs_f64() * self.per_second).floor() as u64 + 1;
        total.saturating_sub(self.taken)
    }

    /// Takes the next event and answers when it is meant to happen.
    pub fn take(&mut self) -> Instant {
        let at = self.intended(self.taken);
        self.taken += 1;
        at
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Instant {
        self.intended(self.taken)
    }

    /// Events taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn intended(&self, k: u64) -> Instant {
        // A day is as good as never to a storm, and keeps the sum within what an Instant holds.
        const FAR: f64 = 86_400.0 * 365.0;
        let after = (k as f64 / self.per_second).min(FAR);
        self.start + Duration::from_secs_f64(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn late_events_keep_their_intended_times() {
        let t0 = Instant::now();
        let mut pacer = Pacer::new(t0, 1000.0);
        assert_eq!(pacer.due(t0), 1);
        assert_eq!(pacer.take(), t0);
        assert_eq!(pacer.due(t0), 0);
        let late = t0 + Duration::from_micros(10_500);
        assert_eq!(pacer.due(late), 10);
        assert_eq!(pacer.take(), t0 + Duration::from_millis(1));
    }

    #[test]
    fn rate_zero_never_comes() {
        let t0 = Instant::now();
        let mut pacer = Pacer::new(t0, 0.0);
        pacer.take();
        assert_eq!(pacer.due(t0 + Duration::from_secs(3600)), 0);
        assert!(pacer.next_at() > t0 + Duration::from_secs(3600));
    }

    proptest! {
        #[test]
        fn takes_rate_times_time(rate in 0.5f64..5_000.0, steps in prop::collection::vec(0u64..200_000, 1..50)) {
            let t0 = Instant::now();
            let (mut now, mut pacer) = (t0, Pacer::new(t0, rate));
            for micros in steps {
                now += Duration::from_micros(micros);
                for _ in 0..pacer.due(now) {
                    prop_assert!(pacer.take() <= now + Duration::from_nanos(2));
                }
                let expected = (now - t0).as_secs_f64() * rate + 1.0;
                prop_assert!((pacer.taken() as f64 - expected).abs() <= 1.0 + 1e-6);
            }
        }
    }
}
