//! One time scale for all processes of a storm.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 that never step: the wall clock is read once, and from then on the monotonic clock
/// counts. Processes of one machine agree to within the microseconds that one reading takes.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base_ns: u64,
    at: Instant,
}

impl Clock {
    /// Reads the wall clock.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base_ns: nanos(wall), at: Instant::now() }
    }

    /// `now` on the common scale.
    #[must_use]
    pub fn ns(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.at) {
            Some(since) => self.base_ns.saturating_add(nanos(since)),
            None => self.base_ns.saturating_sub(nanos(self.at - now)),
        }
    }

    /// This moment on the common scale.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.ns(Instant::now())
    }
}

/// Whole nanoseconds; 584 years fit.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_linear_on_both_sides_of_its_start() {
        let clock = Clock::start();
        let later = clock.at + Duration::from_millis(5);
        assert_eq!(clock.ns(later) - clock.ns(clock.at), 5_000_000);
        if let Some(earlier) = clock.at.checked_sub(Duration::from_millis(5)) {
            assert_eq!(clock.ns(clock.at) - clock.ns(earlier), 5_000_000);
        }
    }
}
