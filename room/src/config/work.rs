//! What may be under way to other services.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{backend::BackendLimits, session::Limits};

/// The section `[room.work]`: what may be under way, for each thread. What is over a bound waits in queues of 16 batches of
/// 512 items, and then in the thread, which tells devices to come again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkConfig {
    /// Binds. Default 256. Worst case one page of an inbox each.
    pub binds: usize,
    /// Loads. Default 1,024. Worst case one page each.
    pub loads: usize,
    /// Acks. Default 4,096, about 200 bytes each.
    pub acks: usize,
    /// Ends of bindings. Default 1,024, about 300 bytes each.
    pub ends: usize,
    /// Upstream items. Default 1,024.
    pub ups: usize,
    /// Bytes of upstream payloads, from the device until the coordinator's answer; devices with more are told to come again.
    /// Default 32 MiB, and they may be there twice: as they came, and in a batch.
    pub up_bytes: usize,
    /// State events that wait for the coordinator, of the room; more are shed and counted. Default 16,384, about 300 bytes each.
    pub events: usize,
    /// Messages of one page of an inbox. Default 256.
    pub page_messages: u32,
    /// Bytes of one page of an inbox or a broadcast log. Default 64 KiB.
    pub page_bytes: u32,
    /// Acks, ends and events are tried for so long. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How often the newest number of each broadcast log is asked for. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub heads_interval: Duration,
}

impl Default for WorkConfig {
    fn default() -> Self {
        let limits = BackendLimits::default();
        Self {
            binds: limits.binds,
            loads: limits.loads,
            acks: limits.acks,
            ends: limits.ends,
            ups: limits.ups,
            up_bytes: Limits::default().up_bytes,
            events: limits.events,
            page_messages: limits.page_messages,
            page_bytes: limits.page_bytes,
            patience: limits.patience,
            heads_interval: limits.heads_interval,
        }
    }
}
