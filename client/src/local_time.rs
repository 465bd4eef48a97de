//! The time zone of the system.

use std::ops::RangeInclusive;

use jiff::{Timestamp, tz::TimeZone};

/// Offsets that exist, minutes: from Baker Island to the Line Islands.
const OFFSETS: RangeInclusive<i16> = -720..=840;

/// What the system's clock on the wall shows minus UTC, minutes; `None` where it cannot be told.
pub(crate) fn utc_offset_min() -> Option<i16> {
    let zone = TimeZone::try_system().ok()?;
    let minutes = zone.to_offset(Timestamp::now()).seconds() / 60;
    i16::try_from(minutes).ok().filter(|minutes| OFFSETS.contains(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_system_says_is_an_offset_that_exists() {
        assert!(utc_offset_min().is_none_or(|minutes| OFFSETS.contains(&minutes)));
    }
}
