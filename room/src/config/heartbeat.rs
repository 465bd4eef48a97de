//! How often devices have to be heard.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::StartError;

use crate::session::{Heartbeat, Pace};

/// The section `[room.heartbeat]`: how often devices have to send something. A device may wish for a value within the bounds
/// of its network; one that is on an unknown network gets the shorter of the two. All in whole seconds, at most 18 hours.
/// Silence for one and a half times that and 5 s ends a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Shortest that a device may have, at least 1 s. Default 10 s. Where reactions must be instant, 1 min is usual.
    #[serde(with = "humantime_serde")]
    pub min: Duration,
    /// On a wire or Wi-Fi, for devices that wish for nothing. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub fixed: Duration,
    /// Longest there. Default 8 min.
    #[serde(with = "humantime_serde")]
    pub fixed_max: Duration,
    /// On a mobile network (2G to 5G), for devices that wish for nothing. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub mobile: Duration,
    /// Longest there: translation tables of carriers forget sooner. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub mobile_max: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        let Heartbeat { min_s, fixed, mobile } = Heartbeat::default();
        let time = |seconds: u16| Duration::from_secs(seconds.into());
        Self {
            min: time(min_s),
            fixed: time(fixed.usual_s),
            fixed_max: time(fixed.max_s),
            mobile: time(mobile.usual_s),
            mobile_max: time(mobile.max_s),
        }
    }
}

impl HeartbeatConfig {
    /// Refuses bounds that cross.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let refuse =
            |key: &str, reason: &str| Err(StartError::config(format!("room.heartbeat.{key}"), reason));
        if self.min < Duration::from_secs(1) {
            return refuse("min", "must be at least 1s");
        }
        for (key, usual, longest) in
            [("fixed", self.fixed, self.fixed_max), ("mobile", self.mobile, self.mobile_max)]
        {
            if usual < self.min || usual > longest {
                return refuse(
                    key,
                    &format!("must be at least room.heartbeat.min and at most room.heartbeat.{key}_max"),
                );
            }
            if longest > Duration::from_secs(u16::MAX.into()) {
                return refuse(&format!("{key}_max"), "must be at most 18h");
            }
        }
        Ok(())
    }

    /// The same for the sessions.
    pub(super) fn negotiable(&self) -> Heartbeat {
        let seconds = |time: Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        let pace = |usual, longest| Pace { usual_s: seconds(usual), max_s: seconds(longest) };
        Heartbeat {
            min_s: seconds(self.min),
            fixed: pace(self.fixed, self.fixed_max),
            mobile: pace(self.mobile, self.mobile_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<HeartbeatConfig>(text).unwrap().check().map_err(|error| error.to_string())
    }

    #[test]
    fn bounds_that_cross_are_named() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("mobile = \"30s\"\nmobile_max = \"1min\""), Ok(()));
        for (text, key) in [
            ("min = \"0s\"", "room.heartbeat.min"),
            ("min = \"6min\"", "room.heartbeat.fixed"),
            ("fixed = \"9min\"", "room.heartbeat.fixed"),
            ("mobile_max = \"1min\"", "room.heartbeat.mobile"),
            ("fixed_max = \"19h\"", "room.heartbeat.fixed_max"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(&format!("{key}: ")), "{text}: {error}");
        }
        assert!(toml::from_str::<HeartbeatConfig>("max = \"1min\"").is_err());
    }
}
