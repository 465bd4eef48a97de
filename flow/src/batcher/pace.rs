//! How far apart batches are sent when the peer takes its time.

use std::time::Duration;

use tokio::time::Instant;

/// A line of paced batches has one under way for at most one part in so many of the time: what comes meanwhile shares the next.
/// With sixteen, a call that is answered in half a millisecond waits for eight at most, and a peer that needs 20 ms for each
/// batch, because hundreds of callers send it batches of one, gets a few larger ones a second from each.
const SHARE: u32 = 16;

/// So many items share a call well enough for it to go at once: what the call itself costs is little beside them. So a caller with much
/// to ask is never slower than the peer.
pub(super) const ENOUGH: usize = 16;

/// When the next batch may go.
pub(super) struct Pace {
    longest: Duration,
    due: Option<Instant>,
    /// The last batch left something behind: the line is at its limit, and to wait would only cost throughput.
    behind: bool,
}

impl Pace {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, due: None, behind: false }
    }

    /// Until when the next batch gathers; `None` = it may go at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| !self.behind && *due > now)
    }

    /// A batch goes now. `behind`: there was more than it could take.
    pub(super) fn sent(&mut self, now: Instant, behind: bool) {
        self.behind = behind;
        // Until it is known how long this one takes.
        self.due = Some(now + self.longest);
    }

    /// A batch that went at `begin` is answered.
    pub(super) fn answered(&mut self, begin: Instant, now: Instant) {
        let apart = (now.saturating_duration_since(begin) * SHARE).min(self.longest);
        let due = begin + apart;
        // The answer to an earlier batch says nothing of how long a later one is waited for.
        if self.due.is_some_and(|present| present <= begin + self.longest) {
            self.due = Some(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(200);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_distance_follows_how_long_an_answer_takes() {
        let start = Instant::now();
        for (took, apart) in [(0, 0), (1, 16), (10, 160), (20, 200), (1_000, 200)] {
            let mut pace = Pace::new(LONGEST);
            assert_eq!(pace.due(start), None);
            pace.sent(start, false);
            assert_eq!(pace.due(start), Some(start + LONGEST));
            pace.answered(start, start + ms(took));
            let due = (apart > 0).then_some(start + ms(apart));
            assert_eq!(pace.due(start), due, "{took} ms");
        }
    }

    #[test]
    fn a_line_that_is_behind_does_not_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(LONGEST);
        pace.sent(start, true);
        assert_eq!(pace.due(start), None);
        pace.answered(start, start + ms(100));
        assert_eq!(pace.due(start + ms(100)), None);
        pace.sent(start + ms(100), false);
        assert!(pace.due(start + ms(100)).is_some());
    }

    #[test]
    fn an_old_answer_does_not_hurry_a_new_batch() {
        let start = Instant::now();
        let mut pace = Pace::new(LONGEST);
        pace.sent(start, true);
        pace.sent(start + ms(50), false);
        pace.answered(start, start + ms(51));
        assert_eq!(pace.due(start + ms(51)), Some(start + ms(250)));
    }
}
