//! The sections of the configuration that all services share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cluster::Peer;
use serde::{Deserialize, Serialize};

/// `[node]`: who this process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Number of the node, 1 to 1023, unique in the cluster.
    pub id: u32,
    /// Data centre or region. Default: `default`.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Folder for what the node must keep: its count of lives, spill queues, an embedded archive.
    pub data: PathBuf,
    /// How long a drain may take before the process ends anyway. Default: 30 s.
    #[serde(default = "default_drain", with = "humantime_serde")]
    pub drain_deadline: Duration,
}

fn default_zone() -> String {
    "default".to_owned()
}

/// Rooms spread reconnects over seconds; orchestrators commonly kill after 30 s.
fn default_drain() -> Duration {
    Duration::from_secs(30)
}

/// `[rpc]`: where the other services call this one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcSettings {
    /// Address of the gRPC server. Default: the node's own entry in `discovery.peers`.
    pub listen: Option<SocketAddr>,
}

/// `[discovery]`: how the nodes find each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DiscoverySettings {
    /// A fixed list, the same in every process.
    Static {
        /// All nodes of the cluster, this one too.
        peers: Vec<Peer>,
    },
}

/// `[admin]`: health, metrics, profiling, log level.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address of the admin port. It has no authentication: keep it off public networks. Default:
    /// `127.0.0.1:0`, a free port, which the log names.
    pub listen: SocketAddr,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// What is logged, in the syntax of `tracing` filters, e.g. `info,room=debug`. Changeable at run time: `PUT
    /// /log` on the admin port. Default: `info`.
    pub filter: String,
    /// `text` or `json`. Default: `text`.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}
