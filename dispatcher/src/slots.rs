//! Slots that spread a reconnect storm over time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So much of a second's devices may come at once before slots are handed out: below that the rooms' own
/// admission is enough.
const BURST: f64 = 1.0;

/// Hands out waits so that devices arrive at a given rate. Below the rate every wait is zero.
///
/// It counts a queue that nobody stands in: each device adds 1 / rate to it, time takes away from it, and who comes
/// waits for what is before it.
#[derive(Debug)]
pub(crate) struct Slots {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// Seconds of work ahead of whoever comes next.
    ahead: f64,
    at: Instant,
}

impl Slots {
    pub(crate) fn new(now: Instant) -> Slots {
        Slots { queue: Mutex::new(Queue { ahead: 0.0, at: now }) }
    }

    /// The wait of one more device, up to `longest`, when `per_second` may come through this dispatcher. `random` is in
    /// 0..1.
    pub(crate) fn take(&self, now: Instant, per_second: f64, longest: Duration, random: f64) -> Duration {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(queue.at).as_secs_f64();
        queue.at = queue.at.max(now);
        let longest = longest.as_secs_f64();
        queue.ahead = (queue.ahead - elapsed).max(0.0);
        let wait = queue.ahead - BURST;
        if wait > longest {
            // No place before the longest wait: back at any moment of its second half, to be spread again. The
            // queue does not grow, or a storm's end would not be noticed.
            return Duration::from_secs_f64(longest * (0.5 + random / 2.0));
        }
        queue.ahead += 1.0 / per_second.max(f64::MIN_POSITIVE);
        if wait <= 0.0 {
            return Duration::ZERO;
        }
        // A little jitter, so that clients that round their timers do not gather.
        Duration::from_secs_f64((wait * (0.95 + random / 10.0)).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn slots(now: Instant) -> Slots {
        Slots::new(now)
    }

    #[test]
    fn nobody_waits_below_the_rate() {
        let start = Instant::now();
        let slots = slots(start);
        for n in 0..10_000_u32 {
            let now = start + Duration::from_millis(1) * n;
            assert_eq!(slots.take(now, 1000.0, LONGEST, 0.5), Duration::ZERO);
        }
    }

    #[test]
    fn a_storm_is_spread_at_the_rate() {
        let start = Instant::now();
        let slots = slots(start);
        let mut seconds = [0; 22];
        for n in 0..20_000_u32 {
            let wait = slots.take(start, 1000.0, LONGEST, f64::from(n % 100) / 100.0);
            seconds[wait.as_secs() as usize] += 1;
        }
        // The burst and the first second's slots, then 1,000 a second, give or take the jitter.
        assert!(seconds[0] <= 2_100, "{seconds:?}");
        assert!(seconds[1..18].iter().all(|count| (700..1_300).contains(count)), "{seconds:?}");
    }

    #[test]
    fn the_wait_is_bounded_and_the_storm_ends() {
        let start = Instant::now();
        let slots = slots(start);
        let longest =
            (0..200_000).map(|n| slots.take(start, 1000.0, LONGEST, f64::from(n % 10) / 10.0)).max();
        assert!(longest <= Some(Duration::from_secs(60)));
        let later = start + Duration::from_secs(62);
        assert_eq!(slots.take(later, 1000.0, LONGEST, 0.5), Duration::ZERO);
    }
}
