//! Pauses between attempts.

use std::time::Duration;

/// Doubles from `first` to `cap`; each pause is drawn from the upper half, so that nodes that failed together do not
/// come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// Starts over: it worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures += 1;
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_cap() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, cap);
        assert!((first / 2..=first).contains(&backoff.next()));
        for _ in 0..100 {
            assert!(backoff.next() <= cap);
        }
        assert!(backoff.next() >= cap / 2);
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
