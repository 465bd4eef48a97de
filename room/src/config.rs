//! What can be configured of a room. Every field has a default; unknown keys are refused.

mod admission;
mod drain;
mod heartbeat;
mod setup;
mod tls;
mod websocket;
mod work;

use std::{net::SocketAddr, thread::available_parallelism, time::Duration};

use serde::{Deserialize, Serialize};
use service::StartError;

pub use self::{
    admission::AdmissionConfig, drain::DrainConfig, heartbeat::HeartbeatConfig, tls::TlsConfig,
    websocket::WebSocketConfig, work::WorkConfig,
};

/// Most threads: their number has six bits in a connection's name.
const THREADS: usize = 64;

/// The section `[room]`.
///
/// Worst-case memory is the sum of: `connections_max` × 256 bytes; `ghosts_max` × 96 bytes; `bindings_max` × 384 bytes (with a
/// name of 128 bytes and 32 tags; 200 are usual); `partial_bytes_total` for frames that have not come in whole;
/// `queued_bytes_total` for slow readers; for each thread 8 MiB of buffers, 2 × (`work.binds` + `work.loads`) pages of
/// `work.page_bytes` + 64 × `work.page_messages`, 2 × `work.up_bytes`, 116 MiB for binds that wait (16,384 with the longest
/// tokens and tags), 512 bytes for each of `work.acks` and `work.ends`, and for each of 16 apps `log_bytes` + 1 MiB + 250 bytes
/// × `tags_per_app`; `work.events` × 512 bytes and 4 MiB; 64 bytes for each network of `admission`, and while one of its limits
/// of an address is set 80 bytes for each connection and 1 MiB. With `tls` 6 KiB more for each connection and 16 KiB for each
/// of `admission.handshakes_in_progress`. A connection at rest holds no buffer. With the defaults, for a million connections,
/// 3,060 MiB with one thread and 640 MiB more for each other; for 20,000 with one thread and bounds to match, under 1 GiB. What
/// every process has comes on top (`service::memory_bound`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where devices connect. Default `0.0.0.0:7400`.
    pub listen: SocketAddr,
    /// What the dispatcher tells devices, `host:port` each. Default: `listen`, with 127.0.0.1 for "any address".
    pub advertise: Vec<String>,
    /// Threads that hold connections, 1 to 64. Default: the processors that the process may use, so one for each core, and
    /// one alone for a process that is pinned to one.
    pub threads: usize,
    /// Connections of the room. Default 1,000,000; the process's limit of open files may be lower, and is raised as far
    /// as the system lets it.
    pub connections_max: usize,
    /// Bindings of the room. Default 2,000,000.
    pub bindings_max: usize,
    /// Bindings of one connection. Default 16.
    pub bindings_per_connection: u8,
    /// Different tags of one app in one thread. Default 10,000. Worst case about 250 bytes a tag.
    pub tags_per_app: usize,
    /// Largest frame from a device, bytes. Default 64 KiB.
    pub max_frame_bytes: usize,
    /// Bytes of frames that have not come in whole, of all connections; a device that would go over it is told to come
    /// back. Default 256 MiB.
    pub partial_bytes_total: usize,
    /// Frames a second that a device may send on average; more is closed as "too fast". Default 500.
    pub frames_per_second: u32,
    /// Frames that it may send at once. Default 2,000.
    pub frames_burst: u32,
    /// Upstream frames of a device that are not answered yet; more are told to come again. Default 32.
    pub ups_in_flight: u8,
    /// Bytes that may wait for one connection; then it is marked behind and catches up by its cursors. Default 256 KiB.
    pub queued_bytes: usize,
    /// Bytes that may wait for all connections; who goes over it is closed as slow. Default 1 GiB.
    pub queued_bytes_total: usize,
    /// Bytes of an app's newest broadcasts that are kept for those who come late. Default 4 MiB.
    pub log_bytes: usize,
    /// Time from accept to Connect. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Time from Connect to the first binding. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub first_bind_timeout: Duration,
    /// A device that does not read for so long is closed as slow. Default 2 min.
    #[serde(with = "humantime_serde")]
    pub slow_timeout: Duration,
    /// Whether a connection whose socket broke is kept for its device to come back, and nobody is told meanwhile. Default true.
    pub resume: bool,
    /// For how long. Default 30 s: a device's first attempts, with a tunnel or a change of networks between. A user who went
    /// without a word counts as online for so long.
    #[serde(with = "humantime_serde")]
    pub resume_grace: Duration,
    /// Connections that are kept so; the next one that breaks ends at once. Default: `connections_max`, so that even a break of
    /// everything costs the rest of the cluster nothing. Worst case 96 bytes each, and their bindings.
    pub ghosts_max: Option<usize>,
    /// Who is told to come back, is told a time between this and twice this. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub retry_after: Duration,
    /// TLS on the same port. Absent: none.
    pub tls: Option<TlsConfig>,
    /// WebSocket on the same port.
    pub websocket: WebSocketConfig,
    /// Who may connect, how often, and how much a connection may send.
    pub admission: AdmissionConfig,
    /// Heartbeats.
    pub heartbeat: HeartbeatConfig,
    /// Leaving.
    pub drain: DrainConfig,
    /// What is under way to other services.
    pub work: WorkConfig,
    /// Calls to other services.
    pub peers: peers::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7400)),
            advertise: Vec::new(),
            threads: available_parallelism().map_or(1, |cores| cores.get().min(THREADS)),
            connections_max: 1_000_000,
            bindings_max: 2_000_000,
            bindings_per_connection: 16,
            tags_per_app: 10_000,
            max_frame_bytes: wire::limits::MAX_CLIENT_FRAME,
            partial_bytes_total: 256 << 20,
            frames_per_second: 500,
            frames_burst: 2_000,
            ups_in_flight: 32,
            queued_bytes: 256 * 1024,
            queued_bytes_total: 1 << 30,
            log_bytes: 4 << 20,
            handshake_timeout: Duration::from_secs(10),
            first_bind_timeout: Duration::from_secs(30),
            slow_timeout: Duration::from_secs(120),
            resume: true,
            resume_grace: Duration::from_secs(30),
            ghosts_max: None,
            retry_after: Duration::from_secs(1),
            tls: None,
            websocket: WebSocketConfig::default(),
            admission: AdmissionConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            drain: DrainConfig::default(),
            work: WorkConfig::default(),
            peers: peers::Limits::default(),
        }
    }
}

impl Config {
    /// Refuses what cannot work, by the name of the key.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let refuse = |key: &str, reason: &str| Err(StartError::config(format!("room.{key}"), reason));
        if !(1..=THREADS).contains(&self.threads) {
            return refuse("threads", "must be 1 to 64");
        }
        if self.connections_max == 0 {
            return refuse("connections_max", "must be at least 1");
        }
        self.heartbeat.check()?;
        self.websocket.check()?;
        self.admission.check(self.max_frame_bytes)?;
        if self.frames_per_second == 0 || self.frames_burst == 0 {
            return refuse("frames_per_second", "rate and burst must be at least 1");
        }
        if self.work.heads_interval.is_zero() {
            return refuse("work.heads_interval", "must be longer than nothing");
        }
        if self.work.up_bytes < self.max_frame_bytes {
            return refuse("work.up_bytes", "must be at least room.max_frame_bytes");
        }
        let counts = [self.work.binds, self.work.loads, self.work.acks, self.work.ends, self.work.ups];
        if counts.contains(&0) || self.work.events == 0 || self.work.page_messages == 0 {
            return refuse("work", "every bound must be at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_section_and_refuses_unknown_keys() {
        let config: Config = toml::from_str("threads = 2\n[heartbeat]\nmin = \"5s\"").unwrap();
        assert!(config.check().is_ok());
        assert_eq!(config.setup(1).limits.bindings, 1_000_000);
        assert_eq!(config.setup(0).limits.heartbeat.min_s, 5);
        assert!(toml::from_str::<Config>("thread = 2").is_err());
    }

    #[test]
    fn what_cannot_work_is_named() {
        let config = Config { threads: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "room.threads: must be 1 to 64");
    }

    #[test]
    fn any_address_is_advertised_as_loopback() {
        let endpoints = Config::default().endpoints("0.0.0.0:77".parse().unwrap());
        assert_eq!(endpoints, ["127.0.0.1:77"]);
    }
}
