//! How fast a count grows.

use std::{collections::VecDeque, time::Duration};

/// Looked back on: long enough to be steady, short enough to show a change of rate.
const WINDOW: Duration = Duration::from_secs(3);

/// The growth of a count over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Speed {
    /// At most one each state that the center tells; older than the window go.
    seen: VecDeque<(Duration, u64)>,
}

impl Speed {
    /// The count is `count` at `now` (since any beginning); how much it grew a second, once that can be told.
    pub(super) fn of(&mut self, count: u64, now: Duration) -> Option<f64> {
        self.seen.push_back((now, count));
        // The oldest within the window stays, or the last one before it.
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let (since, before) = *self.seen.front()?;
        let elapsed = now.saturating_sub(since).as_secs_f64();
        (elapsed >= 0.5).then(|| count.saturating_sub(before) as f64 / elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_last_seconds() {
        let mut speed = Speed::default();
        let at = |tenths: u64| Duration::from_millis(tenths * 100);
        assert_eq!(speed.of(0, at(0)), None);
        assert_eq!(speed.of(10, at(1)), None, "too short to tell");
        for second in 1..=10 {
            assert_eq!(speed.of(100 * second, at(10 * second)), Some(100.0));
        }
        for second in 11..=13 {
            speed.of(1_000, at(10 * second));
        }
        assert_eq!(speed.of(1_000, at(140)), Some(0.0), "it stands still, and what was before is forgotten");
    }
}
