//! How a room sends its devices away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The section `[room.drain]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// Devices told to leave per second. Default 5,000, which the bind pipeline of one other room takes in.
    pub per_second: u32,
    /// Each is told to wait a random time up to this. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub spread: Duration,
    /// A device that has not left so long after it should have is closed. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { per_second: 5_000, spread: Duration::from_secs(2), linger: Duration::from_secs(3) }
    }
}
