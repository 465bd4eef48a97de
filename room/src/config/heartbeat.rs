//! How often devices have to be heard.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The section `[room.heartbeat]`: how often devices have to send something. They may wish for a value in the bounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Shortest, whole seconds. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub min: Duration,
    /// Longest. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
    /// On a wire or Wi-Fi, or an unknown network. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub fixed: Duration,
    /// On a mobile network, where translation tables forget sooner. Default 4 min.
    #[serde(with = "humantime_serde")]
    pub mobile: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(10),
            max: Duration::from_secs(600),
            fixed: Duration::from_secs(300),
            mobile: Duration::from_secs(240),
        }
    }
}
