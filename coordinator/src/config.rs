//! What can be configured of a coordinator. Every field has a default; unknown keys are refused.

use std::{net::SocketAddr, time::Duration};

use flow::Backoff;
use peers::Limits;
use serde::{Deserialize, Serialize};

/// The section `[coordinator]`.
///
/// Worst-case memory: 2 × `memory_bytes` for events until they are taken or spilled; for every app whose backend is behind (32
/// are reckoned with) 2 × `workers_per_app` workers, each with 48 KiB for itself, 256 KiB for the event that it tries and
/// `spill.window_bytes` for those that it has read; 24 MiB for SQLite. With the defaults 320 MiB; what every process has comes on
/// top (`service::memory_bound`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events held in memory until they are taken or spilled, bytes, of all apps. Default 64 MiB.
    pub memory_bytes: usize,
    /// The same of one app and kind of callback. Default 4 MiB: one app alone cannot fill the memory.
    pub app_memory_bytes: usize,
    /// Requests under way to one callback of one app. The users of the app are spread over them, and each is
    /// in order. Default 8.
    pub workers_per_app: usize,
    /// A backend that has not answered by then is waited for with the event in the spill queue, so that nobody
    /// else waits. Default 50 ms.
    #[serde(with = "humantime_serde")]
    pub direct_wait: Duration,
    /// Told to who is to send again, give or take a half. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub retry_after: Duration,
    /// Requests to backends.
    pub webhook: WebhookConfig,
    /// The durable queue.
    pub spill: SpillConfig,
    /// Address of the operators' HTTP: dead letters and their replay. It has no authentication: keep it off public
    /// networks. Default none.
    pub operators: Option<SocketAddr>,
    /// Calls to other nodes.
    pub peers: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            memory_bytes: 64 << 20,
            app_memory_bytes: 4 << 20,
            workers_per_app: 8,
            direct_wait: Duration::from_millis(50),
            retry_after: Duration::from_secs(2),
            webhook: WebhookConfig::default(),
            spill: SpillConfig::default(),
            operators: None,
            peers: Limits::default(),
        }
    }
}

/// The section `[coordinator.webhook]`.
///
/// Apps name the addresses, and a coordinator calls whatever it can reach, inside its own network too: who holds an API key
/// with the scope `admin` can make it send requests there (redirects are not followed, and nobody sees the answers). Where
/// such keys are given to others, keep coordinators from internal addresses by a firewall, or by a proxy for what goes out,
/// which they take from `HTTP_PROXY` and `HTTPS_PROXY`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// A request that takes longer has failed. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Making a connection. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// First wait before a repeat; it doubles, with jitter. Default 200 ms.
    #[serde(with = "humantime_serde")]
    pub retry_initial: Duration,
    /// Longest wait before a repeat. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub retry_cap: Duration,
    /// So many failures in a row open the breaker: no requests but a probe now and then. Default 5.
    pub breaker_failures: u32,
    /// An event that failed so often while the backend took others becomes a dead letter. Default 50.
    pub max_attempts: u32,
    /// An event that the backend refused so often (most 4xx) becomes a dead letter. Default 3.
    pub max_refusals: u32,
    /// An event of this age whose backend does not answer becomes a dead letter. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        WebhookConfig {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            retry_initial: Duration::from_millis(200),
            retry_cap: Duration::from_secs(30),
            breaker_failures: 5,
            max_attempts: 50,
            max_refusals: 3,
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl WebhookConfig {
    pub(crate) fn backoff(&self) -> Backoff {
        // Half of the wait is fixed: a single retrier needs no more spreading, and never hammers.
        Backoff { initial: self.retry_initial, factor: 2.0, cap: self.retry_cap, jitter: 0.5 }
    }
}

/// The section `[coordinator.spill]`: events that wait for a backend, in a file in the node's data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpillConfig {
    /// Bytes that may wait for one app and kind of callback; more are told to come back. Default 256 MiB of disk.
    pub app_bytes: u64,
    /// Bytes that may wait in all. Default 4 GiB of disk.
    pub bytes: u64,
    /// Bytes of events that a worker reads from the queue at a time (one larger event goes by itself). Default 32 KiB.
    pub window_bytes: usize,
    /// Dead letters kept of one app and kind of callback; the oldest go. Default 10,000.
    pub dead_letters: u32,
}

impl Default for SpillConfig {
    fn default() -> Self {
        SpillConfig { app_bytes: 256 << 20, bytes: 4 << 30, window_bytes: 32 << 10, dead_letters: 10_000 }
    }
}
