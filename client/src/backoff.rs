//! Back-off of a device. `flow` has one for the services; the SDK stands alone, without their runtime.

use std::time::Duration;

/// Waits that double up to a cap, each jittered down to half, so that devices cut off together do not come
/// back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest first wait.
    pub initial: Duration,
    /// Longest wait of all.
    pub cap: Duration,
}

impl Default for Backoff {
    /// Half a second is over before a user notices; a minute keeps a million devices that wait for a dead
    /// room below 20,000 attempts a second.
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait before the attempt that follows `failures` failures in a row.
    #[must_use]
    pub fn delay(&self, failures: u32, dice: &mut Dice) -> Duration {
        // 2^20 half seconds are six days: beyond any cap, and no overflow.
        let longest = self.initial.saturating_mul(1 << failures.min(20)).min(self.cap);
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(longest / 2 + dice.below(longest / 2 + 1))
    }
}

/// The source of jitter: SplitMix64, eight bytes of state, and the same numbers for the same seed, so that a
/// test can be repeated. Nothing secret depends on it.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[must_use]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 if that is 0. The bias of a remainder does not matter to jitter.
    #[must_use]
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_within_its_jitter() {
        let backoff = Backoff { initial: Duration::from_millis(100), cap: Duration::from_secs(1) };
        let mut dice = Dice::new(7);
        for (failures, longest) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (u32::MAX, 1000)] {
            for _ in 0..100 {
                let delay = backoff.delay(failures, &mut dice).as_millis();
                assert!((longest / 2..=longest).contains(&delay), "{failures}: {delay}");
            }
        }
    }
}
