//! What can be configured of a dispatcher. Every field has a default; unknown keys are refused.
//!
//! Worst-case memory: `port.connections` × 56 KiB (24 KiB for a connection itself, and 4 requests of it at a time with 4 KiB of
//! head and 4 KiB of body each), 4 KiB for each of up to 1,000 rooms, 100 bytes for each network of `zones`. With the defaults
//! 550 MiB; what every process has comes on top (`service::memory_bound`).

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The section `[dispatcher]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the public port, HTTP and gRPC alike. Default `127.0.0.1:7700`.
    pub listen: SocketAddr,
    /// Addresses in an answer, 1 to 64. Default 3: one to use and two to fall back on.
    pub group: usize,
    /// How rooms are chosen. Default `consistent_hash`.
    pub strategy: StrategyKind,
    /// A room with this part of its capacity in use gets nobody more. Default 0.98: its load is known with a
    /// delay of a second or two, in which devices still come.
    pub full_at: f64,
    /// So many failed addresses of a zone make the next zone the first choice. Default 2.
    pub tried_until_next_zone: usize,
    /// Where there is no room, devices are told to ask again after this, give or take a half. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub retry_after: Duration,
    /// Zones of clients.
    pub zones: ZonesConfig,
    /// Spreading of reconnect storms.
    pub slots: SlotsConfig,
    /// The public port.
    pub port: PortConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            group: 3,
            strategy: StrategyKind::ConsistentHash,
            full_at: 0.98,
            tried_until_next_zone: 2,
            retry_after: Duration::from_secs(5),
            zones: ZonesConfig::default(),
            slots: SlotsConfig::default(),
            port: PortConfig::default(),
        }
    }
}

/// How rooms are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// Any room, whatever its load.
    Random,
    /// One after the other.
    RoundRobin,
    /// In proportion to the headroom, evenly spread over time.
    SmoothWeightedRoundRobin,
    /// In proportion to the headroom, the same user to the same room.
    ConsistentHash,
}

/// The section `[dispatcher.zones]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZonesConfig {
    /// Which client addresses are in which zone; the longest prefix wins. Clients of no zone are served as if they
    /// were in the dispatcher's own. Default none. About 100 bytes a network.
    pub networks: Vec<Network>,
    /// For each zone the others in the order in which they stand in for it. Those not named come last.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// Proxies whose `X-Forwarded-For` is believed. Default none: the peer's address is the client's.
    pub trusted_proxies: Vec<IpNet>,
}

/// One network of a zone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// For example `10.1.0.0/16`.
    pub cidr: IpNet,
    /// Name of the zone, as in the rooms' `node.zone`.
    pub zone: String,
}

/// The section `[dispatcher.slots]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlotsConfig {
    /// Devices that may be sent to the rooms in a second, by all dispatchers together; more are told to wait for
    /// their slot. Default 20,000, what a few rooms can take in with register and inbox loads. None = no slots.
    pub per_second: Option<f64>,
    /// The same for each room that takes devices; the lesser counts. Default 5,000, what the bind pipeline of a room takes
    /// in without making anybody wait.
    pub per_room: f64,
    /// The same for a minute after a room has vanished, when every device comes back with an inbox to be read and registers
    /// have much to tell. Default 2,500.
    pub per_room_after_loss: f64,
    /// The longest wait that is handed out. Default 2 min: a device that waits longer looks broken to its user.
    #[serde(with = "humantime_serde")]
    pub longest: Duration,
}

impl Default for SlotsConfig {
    fn default() -> Self {
        SlotsConfig {
            per_second: Some(20_000.0),
            per_room: 5_000.0,
            per_room_after_loss: 2_500.0,
            longest: Duration::from_secs(120),
        }
    }
}

/// The section `[dispatcher.port]`: bounds of the public port.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortConfig {
    /// Connections at once; more wait in the listen queue. Default 10,000, each about 20 KiB while it is
    /// used and at most 56 KiB.
    pub connections: usize,
    /// A connection is asked to end after this, and cut 10 s later. Default 60 s: long enough to be used again,
    /// and an end to whoever holds one without asking anything.
    #[serde(with = "humantime_serde")]
    pub connection_lifetime: Duration,
}

impl Default for PortConfig {
    fn default() -> Self {
        PortConfig { connections: 10_000, connection_lifetime: Duration::from_secs(60) }
    }
}
