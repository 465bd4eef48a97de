//! Time as the state machines see it.

use std::{ops::Add, time::Duration};

/// A moment in milliseconds since an origin that the driver chooses. Half the size of an `Instant`, and a
/// test can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than anything that will come.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long after `earlier` this is; nothing if it is before it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Itself, unless it is [`NEVER`](Self::NEVER).
    #[must_use]
    pub fn ever(self) -> Option<Self> {
        (self != Self::NEVER).then_some(self)
    }
}

impl From<Duration> for Moment {
    fn from(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(wait).0))
    }
}
