//! What can be configured of a register. Every field has a default; unknown keys are refused.

use std::time::Duration;

use peers::Limits;
use serde::{Deserialize, Serialize};

/// The section `[register]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// After a start, a lapse of the lease or the end of another register, users who are not found are answered as
    /// "rebuilding" and not as offline until every room has told its sessions, but no longer than this. Default 15 s: a
    /// room that hangs is out of the picture by then. In its first life a register knows at once.
    #[serde(with = "humantime_serde")]
    pub rebuild_at_most: Duration,
    /// Kicks of replaced sessions.
    pub kicks: KicksConfig,
    /// Calls to the rooms.
    pub peers: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rebuild_at_most: Duration::from_secs(15),
            kicks: KicksConfig::default(),
            peers: Limits::default(),
        }
    }
}

/// The section `[register.kicks]`: telling rooms that a session was replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KicksConfig {
    /// Kicks under way at once; they share batches. Default 256.
    pub workers: usize,
    /// Kicks that wait. More are dropped and counted: the replaced connection then stays until it ends by itself,
    /// and gets nothing meanwhile. Default 65,536, about 100 bytes each.
    pub queue: usize,
}

impl Default for KicksConfig {
    fn default() -> Self {
        KicksConfig { workers: 256, queue: 65_536 }
    }
}
