//! What a device's clock shows.

use crate::filter::UTC_OFFSETS;

/// What a device's clock shows minus UTC, down to a quarter of an hour. One byte, also for a device that did not tell, which counts
/// as one that shows UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(i8);

impl Offset {
    /// Of a device that did not tell: no clock is 32 hours behind.
    pub const UNTOLD: Self = Self(i8::MIN);

    /// From the minutes that a device said, which may be anything: what makes no sense counts as not told.
    #[must_use]
    pub fn new(minutes: Option<i32>) -> Self {
        let minutes = minutes.filter(|minutes| UTC_OFFSETS.contains(minutes));
        // Down to the quarter before: −17 min is −30.
        minutes.map_or(Self::UNTOLD, |minutes| Self(minutes.div_euclid(15) as i8))
    }

    /// Quarters of an hour; 0 if it was not told.
    #[must_use]
    pub fn quarters(self) -> i8 {
        if self == Self::UNTOLD { 0 } else { self.0 }
    }

    /// Minutes, if it was told.
    #[must_use]
    pub fn minutes(self) -> Option<i32> {
        (self != Self::UNTOLD).then(|| i32::from(self.0) * 15)
    }
}

impl Default for Offset {
    fn default() -> Self {
        Self::UNTOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_told_apart_from_nothing() {
        for (told, quarters, minutes) in [
            (None, 0, None),
            (Some(0), 0, Some(0)),
            (Some(345), 23, Some(345)),
            (Some(-17), -2, Some(-30)),
            (Some(840), 56, Some(840)),
            (Some(-720), -48, Some(-720)),
            (Some(9_999), 0, None),
            (Some(i32::MIN), 0, None),
        ] {
            let offset = Offset::new(told);
            assert_eq!((offset.quarters(), offset.minutes()), (quarters, minutes), "{told:?}");
        }
    }
}
