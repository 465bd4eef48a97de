//! What a command sends, when and how: from its arguments to the API's fields.

use std::{
    io::Read as _,
    path::Path,
    time::{Duration, SystemTime},
};

use proto::v1::{Priority, When};
use service::ExitError;

use crate::args;

/// A message's payload and how long it is kept.
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) idempotency_key: String,
}

/// Reads what is to be sent.
pub(crate) fn payload(args: &args::Payload) -> Result<Payload, ExitError> {
    let bytes = match (&args.text, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Err(ExitError::usage("give the message, or --file")),
    };
    let ttl_s = args.ttl.map(ttl_seconds).transpose()?;
    Ok(Payload { bytes, ttl_s, idempotency_key: args.idempotency_key.clone().unwrap_or_default() })
}

fn ttl_seconds(ttl: Duration) -> Result<u32, ExitError> {
    u32::try_from(ttl.as_secs())
        .ok()
        .filter(|s| *s > 0)
        .ok_or_else(|| ExitError::usage("--ttl is at least 1s"))
}

/// The most that is read: no center takes a longer request, and none could say so to who is still sending it.
const MOST: u64 = 8 << 20;

/// A file, or standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ExitError> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes))
    };
    match result {
        Ok(read) if read as u64 == MOST => {
            Err(ExitError::usage(format!("{} is too long: under 8 MiB are taken", path.display())))
        }
        Ok(_) => Ok(bytes),
        Err(e) => Err(ExitError::usage(format!("cannot read {}: {e}", path.display()))),
    }
}

/// When to send; `None` = now.
pub(crate) fn when(timing: &args::Timing) -> Result<Option<When>, ExitError> {
    if let Some(local) = &timing.local {
        let time_zone = timing.time_zone.clone().unwrap_or_default();
        return Ok(Some(When { local_time: local.clone(), time_zone, ..When::default() }));
    }
    let Some(at) = &timing.at else { return Ok(None) };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at_ms = instant(at, now).ok_or_else(|| {
        ExitError::usage(format!(
            "--at {at:?} is no time: say 2026-11-21T09:00Z, 2026-11-21T09:00+01:00 or +90m (for a clock's time, --local)"
        ))
    })?;
    Ok(Some(When { at_ms, ..When::default() }))
}

/// ms since 1970 of a moment, or of a time from `now` on.
fn instant(text: &str, now: Duration) -> Option<u64> {
    let since = match text.strip_prefix('+') {
        Some(later) => now.checked_add(humantime::parse_duration(later).ok()?)?,
        None => {
            let at = text.parse::<jiff::Timestamp>().ok()?;
            Duration::from_millis(u64::try_from(at.as_millisecond()).ok()?)
        }
    };
    u64::try_from(since.as_millis()).ok().filter(|ms| *ms > 0)
}

/// Before whom to send.
pub(crate) fn priority(timing: &args::Timing) -> i32 {
    let priority = if timing.urgent { Priority::Urgent } else { Priority::Unspecified };
    priority.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_center_takes_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        std::fs::File::create(&path).unwrap().set_len(MOST - 1).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MOST - 1);
        // A center breaks the connection off in the middle of it: "h2 protocol error" was all that was said.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("under 8 MiB"));
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Duration::from_secs(1_000);
        for (text, ms) in [
            ("1970-01-01T00:01Z", 60_000),
            ("1970-01-01T00:01:00.250Z", 60_250),
            ("1970-01-01T01:01+01:00", 60_000),
            ("+90s", 1_090_000),
            ("+1h 30m", 6_400_000),
        ] {
            assert_eq!(instant(text, now), Some(ms), "{text}");
        }
        // Without an offset it would be anybody's guess; --local is for that.
        for text in ["2026-11-21T09:00", "09:00", "tomorrow", "", "+", "+x", "-5m", "1969-12-31T23:59Z"] {
            assert_eq!(instant(text, now), None, "{text}");
        }
    }

    #[test]
    fn a_local_time_goes_as_it_is_with_its_zone() {
        let timing = |local: &str, zone: Option<&str>| args::Timing {
            local: Some(local.to_owned()),
            time_zone: zone.map(str::to_owned),
            ..args::Timing::default()
        };
        let device = when(&timing("09:00", Some("device"))).unwrap().unwrap();
        assert_eq!(
            (device.local_time.as_str(), device.time_zone.as_str(), device.at_ms),
            ("09:00", "device", 0)
        );
        let utc = when(&timing("09:00", None)).unwrap().unwrap();
        assert_eq!(utc.time_zone, "");
        assert_eq!(when(&args::Timing::default()).unwrap(), None);
        let wrong = args::Timing { at: Some("soon".to_owned()), ..args::Timing::default() };
        assert!(when(&wrong).unwrap_err().to_string().contains("+90m"));
    }
}
