//! When something is to be sent: read once, out of what a request says.
//!
//! A time on the device's wall is a number of minutes that a clock shows, and each offset from UTC reaches it at another
//! moment. Offsets are taken in steps of a quarter of an hour, from the clock that is first to the one that is last.

use std::time::Duration;

use jiff::{
    Timestamp, Zoned,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use proto::v1;

use crate::error::{Error, Result};

/// Offsets from UTC, minutes: the first clocks of the world are those of Kiribati, the last those of Baker Island.
const FIRST_OFFSET: i32 = 14 * 60;
const LAST_OFFSET: i32 = -12 * 60;
/// All offsets in use are multiples of it.
const STEP: i32 = 15;
/// How many offsets there are.
pub(crate) const STEPS: u32 = ((FIRST_OFFSET - LAST_OFFSET) / STEP) as u32 + 1;

const MINUTE_MS: u64 = 60_000;
const DAY_MIN: u64 = 24 * 60;

/// A moment that has passed by no more than this is one that was meant, and slow to come here; before that it is a mistake,
/// like seconds that were taken for milliseconds.
const LATE_MS: u64 = 86_400_000;

/// The zone that says: that of each device.
const DEVICE: &str = "device";

/// When something is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// At once.
    Now,
    /// At a moment, ms since 1970; it may have passed, by at most a day.
    At(u64),
    /// When the clock of each device shows this, minutes since midnight, 1970-01-01 of that clock.
    Local(u64),
}

impl Due {
    /// Reads the field `when` of a request that came at `now_ms`.
    ///
    /// # Errors
    /// What does not fit is named: `when.at_ms`, `when.local_time`, `when.time_zone`.
    pub(crate) fn parse(when: Option<&v1::When>, now_ms: u64, ahead_max: Duration) -> Result<Due> {
        Due::parse_in("when", when, now_ms, ahead_max)
    }

    /// The same for a field of another name.
    ///
    /// # Errors
    /// As those of [`Due::parse`].
    pub(crate) fn parse_in(
        field: &'static str,
        when: Option<&v1::When>,
        now_ms: u64,
        ahead_max: Duration,
    ) -> Result<Due> {
        let Some(when) = when else { return Ok(Due::Now) };
        let wrong = |name: &str, message: String| Err(Error::invalid(format!("{field}.{name}"), message));
        let latest = now_ms.saturating_add(u64::try_from(ahead_max.as_millis()).unwrap_or(u64::MAX));
        let (due, name) = match (when.at_ms, when.local_time.as_str()) {
            (_, "") if !when.time_zone.is_empty() => {
                return wrong("time_zone", "says of which zone local_time is, and there is none".to_owned());
            }
            (0, "") => return Ok(Due::Now),
            (0, text) => {
                let wall = match Wall::parse(text) {
                    Ok(wall) => wall,
                    Err(message) => return wrong("local_time", message),
                };
                let due = match when.time_zone.as_str() {
                    DEVICE => wall.on_devices(now_ms).map(Due::Local),
                    name => match zone(name) {
                        Some(zone) => wall.at(&zone, now_ms).map(Due::At),
                        None => return wrong("time_zone", format!("{name:?} is no time zone of IANA")),
                    },
                };
                match due {
                    Some(due) => (due, "local_time"),
                    None => return wrong("local_time", "is out of range".to_owned()),
                }
            }
            (at_ms, "") => (Due::At(at_ms), "at_ms"),
            _ => return Err(Error::invalid(field, "give at_ms or local_time, not both")),
        };
        if due.last_ms().saturating_add(LATE_MS) < now_ms {
            return wrong(name, "has passed".to_owned());
        }
        if due.first_ms() > latest {
            let days = ahead_max.as_secs() / 86_400;
            return wrong(name, format!("is too far ahead; at most {days} days are taken"));
        }
        Ok(due)
    }

    /// When the first is due, ms since 1970; 0 = now.
    pub(crate) fn first_ms(self) -> u64 {
        match self {
            Due::Now => 0,
            Due::At(ms) => ms,
            Due::Local(minutes) => first_due_ms(minutes),
        }
    }

    /// When the last is due, ms since 1970; 0 = now.
    fn last_ms(self) -> u64 {
        match self {
            Due::Local(minutes) => local_due_ms(minutes, LAST_OFFSET),
            _ => self.first_ms(),
        }
    }
}

/// The offset of a step, minutes; the steps go from the first clock to the last.
pub(crate) fn offset_of(step: u32) -> i32 {
    FIRST_OFFSET - STEP * step.min(STEPS - 1) as i32
}

/// The step of an offset; one between two steps is taken at the next lower offset, a little late.
pub(crate) fn step_of(offset_min: i32) -> u32 {
    let offset = offset_min.clamp(LAST_OFFSET, FIRST_OFFSET).div_euclid(STEP) * STEP;
    ((FIRST_OFFSET - offset) / STEP) as u32
}

/// When clocks of such an offset show `local_minutes`, ms since 1970.
pub(crate) fn local_due_ms(local_minutes: u64, offset_min: i32) -> u64 {
    let minutes = local_minutes.saturating_add_signed(-i64::from(offset_of(step_of(offset_min))));
    minutes.saturating_mul(MINUTE_MS)
}

/// When the first clocks show `local_minutes`, ms since 1970.
pub(crate) fn first_due_ms(local_minutes: u64) -> u64 {
    local_due_ms(local_minutes, FIRST_OFFSET)
}

/// What a clock shows.
#[derive(Debug, Clone, Copy)]
struct Wall {
    /// Absent: the next day on which it does.
    date: Option<Date>,
    time: Time,
}

impl Wall {
    fn parse(text: &str) -> Result<Wall, String> {
        let form =
            || format!("is {:?}; it must be like 09:00 or 2026-11-21T09:00", crate::ops::shortened(text));
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (Some(date), time),
            None => (None, text),
        };
        let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<i8>().map_err(|_| form()),
            false => Err(form()),
        };
        let (hour, minute) = time.split_once(':').ok_or_else(form)?;
        let time = Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| form())?;
        let date = date.map(|date| date.parse().map_err(|_| form())).transpose()?;
        Ok(Wall { date, time })
    }

    /// When clocks of a zone show it. What they show twice is the first time, and what they skip is as much later as they
    /// skip.
    fn at(self, zone: &TimeZone, now_ms: u64) -> Option<u64> {
        let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
        let moment = |date: Date| date.to_datetime(self.time).to_zoned(zone.clone()).ok();
        let due = match self.date {
            Some(date) => moment(date)?,
            None => {
                let today = Zoned::new(now, zone.clone()).date();
                match moment(today)? {
                    due if due.timestamp() > now => due,
                    _ => moment(today.tomorrow().ok()?)?,
                }
            }
        };
        u64::try_from(due.timestamp().as_millisecond()).ok()
    }

    /// What devices' clocks are to show. Without a date it is the first day on which no clock has shown it yet.
    fn on_devices(self, now_ms: u64) -> Option<u64> {
        let time_min = self.time.hour() as u64 * 60 + self.time.minute() as u64;
        match self.date {
            Some(date) => {
                let shown = DateTime::from_parts(date, self.time).to_zoned(TimeZone::UTC).ok()?;
                u64::try_from(shown.timestamp().as_second()).ok().map(|seconds| seconds / 60)
            }
            None => {
                let first_clock = now_ms / MINUTE_MS + FIRST_OFFSET as u64;
                let today = first_clock - first_clock % DAY_MIN + time_min;
                Some(if today > first_clock { today } else { today + DAY_MIN })
            }
        }
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" => Some(TimeZone::UTC),
        name => TimeZone::get(name).ok(),
    }
}

#[cfg(test)]
#[path = "when_tests.rs"]
mod tests;
