//! What can be configured of a center. Every field has a default; unknown keys are refused.
//!
//! Worst-case memory is the sum of: `connections_max` × 40 KiB; `http2_connections_max` × 320 KiB; `requests_in_flight` ×
//! 16 KiB; 3 × `body_bytes_in_flight`, because a body is there as it came, as it was read and in a batch to its saver;
//! 5/2 × `delivery.queue_bytes`; (639 + `broadcasts.jobs_max`) × `payload_max_bytes` for broadcasts that wait for the rooms or for
//! their time and for lists of users on their way to the rooms, of which the names are 31 MiB; `auth.cached_keys` × 512 bytes;
//! 4 MiB for apps. With the defaults 768 MiB; what every process has comes on top (`service::memory_bound`). What waits in
//! the queues to the other services is a part of it: each call there belongs to a request or a delivery that is counted.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use peers::Limits;
use serde::{Deserialize, Serialize};

/// The section `[center]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the API, HTTP and gRPC on one port. Default 127.0.0.1:7800. Port 0 = a free one, which the log names.
    pub listen: SocketAddr,
    /// Connections to the API; one more waits until another ends. Default 4,096, each up to 40 KiB.
    pub connections_max: usize,
    /// How many of them may speak HTTP/2, and so gRPC; one more is closed. Default 512, each up to 320 KiB.
    pub http2_connections_max: usize,
    /// Largest payload of a message, bytes. Default 65,536.
    pub payload_max_bytes: usize,
    /// Longest time to live that a message may ask for. Default 30 days.
    #[serde(with = "humantime_serde")]
    pub ttl_max: Duration,
    /// How far ahead a message or broadcast may be scheduled. Default 366 days.
    #[serde(with = "humantime_serde")]
    pub schedule_ahead_max: Duration,
    /// Users of one multicast. Default 10,000.
    pub multicast_max_uids: usize,
    /// Users of one multicast whose list is streamed. Default 1,000,000. However many, a list that comes takes 5 MiB of
    /// `body_bytes_in_flight`.
    pub multicast_stream_max_uids: usize,
    /// Pushes of one gRPC `PushBatch`. Default 1,000.
    pub batch_max_pushes: usize,
    /// Largest gRPC request, bytes: a batch of pushes or a long list of users. Default 8 MiB. All together are
    /// bounded by `body_bytes_in_flight`.
    pub grpc_message_max_bytes: usize,
    /// How long an idempotency key is remembered. Default 24 hours.
    #[serde(with = "humantime_serde")]
    pub idempotency_window: Duration,
    /// Longest life of a device token. Default 30 days.
    #[serde(with = "humantime_serde")]
    pub token_ttl_max: Duration,
    /// Requests under way at once; more are told to come back. Default 4,096, each at most 16 KiB besides its body.
    pub requests_in_flight: usize,
    /// Bytes of request bodies held at once, from the first byte to the answer; more are told to come back. Each push of a batch
    /// counts 4 KiB besides its bytes, each user of a multicast 512. Default 64 MiB; each of them may be there three times.
    pub body_bytes_in_flight: usize,
    /// A request whose body has not come within this time is answered 408. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// API keys.
    pub auth: AuthConfig,
    /// What becomes of a message after it was stored.
    pub delivery: DeliveryConfig,
    /// Broadcasts that take time.
    pub broadcasts: BroadcastConfig,
    /// Calls of the other services. Default as in the crate `peers`, but with a deadline of 5 s.
    pub peers: Limits,
    /// What an app gets that does not say otherwise when it is created.
    pub new_apps: NewApps,
    /// An app and a key to create at the start if they are not there. Default none.
    pub bootstrap: Option<Bootstrap>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7800)),
            connections_max: 4_096,
            http2_connections_max: 512,
            payload_max_bytes: 64 * 1024,
            ttl_max: Duration::from_secs(30 * 86_400),
            schedule_ahead_max: Duration::from_secs(366 * 86_400),
            multicast_max_uids: 10_000,
            multicast_stream_max_uids: 1_000_000,
            batch_max_pushes: 1_000,
            grpc_message_max_bytes: 8 << 20,
            idempotency_window: Duration::from_secs(86_400),
            token_ttl_max: Duration::from_secs(30 * 86_400),
            requests_in_flight: 4_096,
            body_bytes_in_flight: 64 << 20,
            body_timeout: Duration::from_secs(15),
            auth: AuthConfig::default(),
            delivery: DeliveryConfig::default(),
            broadcasts: BroadcastConfig::default(),
            // Below what HTTP clients commonly wait, so that they are told instead of giving up.
            peers: Limits {
                rpc_timeout: Duration::from_secs(4),
                deadline: Duration::from_secs(5),
                ..Limits::default()
            },
            new_apps: NewApps::default(),
            bootstrap: None,
        }
    }
}

/// The section `[center.auth]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Keys kept in memory, known and unknown ones counted apart. Default 10,000 each, about 1 MiB each.
    pub cached_keys: usize,
    /// How long a known key is believed before a saver is asked again. Default 60 s.
    #[serde(with = "humantime_serde")]
    pub key_ttl: Duration,
    /// How much longer a known key serves while no saver can be asked. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub key_grace: Duration,
    /// How long a key is believed to be unknown. Default 5 s: a key made elsewhere works that soon.
    #[serde(with = "humantime_serde")]
    pub unknown_key_ttl: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            cached_keys: 10_000,
            key_ttl: Duration::from_secs(60),
            key_grace: Duration::from_secs(600),
            unknown_key_ttl: Duration::from_secs(5),
        }
    }
}

/// The section `[center.delivery]`: the stage that takes stored messages to the rooms. What does not fit or
/// does not succeed is delivered by the saver's sweeper, some ten seconds later.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Users are spread over so many lanes; a lane keeps its users' order. Default 8.
    pub lanes: usize,
    /// Messages that wait in a lane, and as many again that it has in hand. Default 8,192.
    pub lane_items: usize,
    /// Users that a lane looks up together. Default 512.
    pub lane_batch: usize,
    /// Bytes that wait in all lanes, 256 for each message besides its payload. Default 32 MiB, which
    /// may be there twice.
    pub queue_bytes: usize,
    /// A lane waits so long for the slowest look-up of a batch before it goes on without it. Default 100 ms: many times
    /// what a register needs, and hardly to be noticed by those who wait for one that is gone.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            lanes: 8,
            lane_items: 8_192,
            lane_batch: 512,
            queue_bytes: 32 << 20,
            patience: Duration::from_millis(100),
        }
    }
}

/// The section `[center.broadcasts]`: those that are paced, scheduled, or otherwise not released at once.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BroadcastConfig {
    /// Broadcasts of the whole cluster that have not been released to all; more are told to come back. Default 512, each up to
    /// `payload_max_bytes` at the center that runs it.
    pub jobs_max: usize,
    /// Streams of broadcasts' progress; more are told to come back. Default 256, each about 2 KiB.
    pub watchers_max: usize,
    /// Frames a second that a preview takes each room to send when no speed is asked for. Default 100,000: what a room with one
    /// thread does with small payloads.
    pub room_frames_per_second: u32,
}

impl Default for BroadcastConfig {
    fn default() -> Self {
        BroadcastConfig { jobs_max: 512, watchers_max: 256, room_frames_per_second: 100_000 }
    }
}

/// The section `[center.new_apps]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewApps {
    /// Time to live of a message that names none, seconds. Default 7 days.
    pub default_ttl_s: u32,
    /// Messages that an inbox holds; the oldest goes when one more comes. Default 1,000.
    pub inbox_cap: u32,
    /// Users that an app may push to in a second, at each center. Default 50,000.
    pub pushes_per_second: u32,
}

impl Default for NewApps {
    fn default() -> Self {
        NewApps { default_ttl_s: 7 * 86_400, inbox_cap: 1_000, pushes_per_second: 50_000 }
    }
}

/// The section `[center.bootstrap]`: how a new cluster gets its first app and key.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// The app's name.
    pub app: String,
    /// SHA-256 of the API key's text, in hex.
    pub key_sha256: Option<String>,
    /// A file with the API key's text on its only line.
    pub key_file: Option<PathBuf>,
    /// Scopes of the key. Default all.
    #[serde(default = "all_scopes")]
    pub scopes: Vec<String>,
}

fn all_scopes() -> Vec<String> {
    crate::auth::Scope::ALL.iter().map(|scope| scope.name().to_owned()).collect()
}
