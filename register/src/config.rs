//! What can be configured of a register. Every field has a default; unknown keys are refused.
//!
//! Worst-case memory: `sessions_max` × 184 bytes (with the longest names, of 128 bytes; 88 with names of up to 40), 512 bytes for
//! each kick that waits or is under way, 16 MiB for what is told of rooms. With the defaults 750 MiB; what every process has
//! comes on top (`service::memory_bound`).

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
    /// Sessions that are kept; a bind that would be one more is refused, and its device told to come back. They are spread over
    /// parts by a hash, and a part may be full a little earlier. Default 4,000,000.
    pub sessions_max: usize,
    /// Kicks of replaced sessions.
    pub kicks: KicksConfig,
    /// Calls to the rooms.
    pub peers: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rebuild_at_most: Duration::from_secs(15),
            sessions_max: 4_000_000,
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
