//! What a phase can do.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($word:literal)),+ $(,)?) => {
        /// What a phase does.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name($name)),+ }

        impl Kind {
            /// All words for `kind`.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word for it in a file.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self { $(Self::$name(_) => $word),+ }
            }

            pub(super) fn from_table(word: &str, table: toml::Table) -> Option<Result<Self, toml::de::Error>> {
                Some(match word {
                    $($word => $name::deserialize(table).map(Self::$name),)+
                    _ => return None,
                })
            }

            pub(super) fn to_table(&self) -> toml::Table {
                let table = match self { $(Self::$name(one) => toml::Table::try_from(one)),+ };
                table.unwrap_or_default()
            }
        }
    };
}

kinds! {
    /// Opens connections.
    Ramp("ramp"),
    /// Does nothing but hold the connections, with their heartbeats.
    Hold("hold"),
    /// Cuts connections, which come back.
    Churn("churn"),
    /// Pushes to single users.
    Unicast("unicast"),
    /// Pushes to everybody.
    Broadcast("broadcast"),
    /// Lets a share of the devices stop reading.
    Slow("slow"),
    /// Drains a room.
    Drain("drain"),
    /// Runs a command.
    Execute("execute"),
    /// Measures the floor.
    Floor("floor"),
}

impl Kind {
    /// Whether it goes on until it is told to end.
    pub(crate) fn needs_end(&self) -> bool {
        match self {
            Self::Hold(_) | Self::Churn(_) | Self::Unicast(_) | Self::Slow(_) => true,
            Self::Broadcast(broadcast) => broadcast.count.is_none(),
            Self::Ramp(_) | Self::Drain(_) | Self::Execute(_) | Self::Floor(_) => false,
        }
    }
}

/// `ramp`: opens connections, at most so many a second; ends when all are bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ramp {
    /// So many in all, those of earlier ramps included. Default: `fleet.users`.
    pub connections: Option<u32>,
    /// Connections a second. Default: `fleet.ramp`.
    pub rate: Option<f64>,
    /// The run fails if they are not all bound by then. Default: `fleet.open_within`.
    #[serde(with = "humantime_serde::option")]
    pub within: Option<Duration>,
}

/// `hold`: the connections stand, and their heartbeats go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {}

/// `churn`: connections are cut, as `line.cuts` says, and come back within a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Churn {
    /// Share of all connections that is cut each second: 0.01 is one in a hundred. Default 0.01.
    pub share: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self { share: 0.01 }
    }
}

/// `unicast`: pushes to single users in turn, at a rate (open loop: each push has its moment, and latencies count from
/// that moment however late the push leaves) or with a window (as many as come back).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unicast {
    /// Pushes a second. Absent: as many as the window lets through.
    pub rate: Option<f64>,
    /// Most pushes between being sent and being received. Default: 1000, and with a rate no limit.
    pub window: Option<u64>,
    /// Bytes of a payload. Default 256.
    pub payload: usize,
    /// Pushes in a batch at most. Default 100.
    pub batch: usize,
    /// Batches under way at most. Default 32.
    pub in_flight: usize,
    /// Seconds that a message lives. Default: the app's.
    pub ttl: Option<u32>,
    /// Only to who is online, never stored. Default false.
    pub transient: bool,
    /// With an idempotency key each. Default false.
    pub keys: bool,
}

impl Default for Unicast {
    fn default() -> Self {
        Self {
            rate: None,
            window: None,
            payload: 256,
            batch: 100,
            in_flight: 32,
            ttl: None,
            transient: false,
            keys: false,
        }
    }
}

/// `broadcast`: one message to everybody, again and again: every so often, or as many outstanding as allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broadcast {
    /// One every so often, whatever became of the one before. Absent: as many as `outstanding` lets through.
    #[serde(with = "humantime_serde::option")]
    pub every: Option<Duration>,
    /// Broadcasts that not everybody has yet, at most. Default 1, and with `every` no limit.
    pub outstanding: Option<u64>,
    /// How many. Default: until the phase ends.
    pub count: Option<u64>,
    /// Bytes of a payload. Default 256.
    pub payload: usize,
    /// Tag expression. Default: everyone.
    pub audience: String,
    /// Users a second that a broadcast is released to. Default: as fast as the rooms can. Best with one outstanding: of several
    /// that are under way at once each has its own speed, and they do not come to all devices in the same order.
    pub users_per_second: Option<u32>,
    /// Before everything that waits and is not urgent. Default false.
    pub urgent: bool,
    /// Seconds that a broadcast lives. Default: the app's.
    pub ttl: Option<u32>,
    /// How long to wait for any progress before giving up. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
}

impl Default for Broadcast {
    fn default() -> Self {
        Self {
            every: None,
            outstanding: None,
            count: None,
            payload: 256,
            audience: String::new(),
            users_per_second: None,
            urgent: false,
            ttl: None,
            patience: Duration::from_secs(30),
        }
    }
}

/// `slow`: a share of the devices does not read while this phase lasts, and then reads again. (Those of `line.slow` do
/// not read from the beginning.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// Share of the devices, more than 0 and at most 1. Default 0.05.
    pub share: f64,
}

impl Default for Slow {
    fn default() -> Self {
        Self { share: 0.05 }
    }
}

/// `drain`: a room ends in good order; the phase ends when it is gone and all devices are bound elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The process gets SIGTERM.
    pub pid: Option<u32>,
    /// The first process of this program, as in `fleet.programs`, gets SIGTERM.
    pub program: Option<String>,
    /// Address of the room's RPC port: it is asked to drain. In a cluster with TLS `rpc_ca`, `rpc_cert` and `rpc_key` are needed.
    pub rpc: Option<SocketAddr>,
    /// File of the cluster's certificate authority.
    pub rpc_ca: Option<PathBuf>,
    /// File of the certificate that the room is shown: one of a node of the cluster.
    pub rpc_cert: Option<PathBuf>,
    /// File of its key.
    pub rpc_key: Option<PathBuf>,
    /// How long it may take. Default 2 min.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            pid: None,
            program: None,
            rpc: None,
            rpc_ca: None,
            rpc_cert: None,
            rpc_key: None,
            within: Duration::from_secs(120),
        }
    }
}

/// `execute`: runs a command, which must succeed: `longwire node drain`, a restart, a kill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Execute {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// How long it may take. Default 2 min.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

impl Default for Execute {
    fn default() -> Self {
        Self { command: Vec::new(), within: Duration::from_secs(120) }
    }
}

/// `floor`: what the kernel allows on this machine, measured as `storm floor` does. Best before the first ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Floor {
    /// Connections. Default 5000.
    pub connections: u32,
    /// Bytes of a message. Default 256.
    pub payload: usize,
    /// How long each of the measurements goes on. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub seconds: Duration,
    /// Processor for the floor's server.
    pub server_cpu: Option<usize>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { connections: 5000, payload: 256, seconds: Duration::from_secs(3), server_cpu: None }
    }
}
