//! The sections of the configuration that all services share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cluster::{
    Peer,
    etcd::{EtcdError, EtcdOptions, EtcdTls},
};
use serde::{Deserialize, Serialize};

use crate::StartError;

/// `[node]`: who this process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Number of the node, 1 to 1023, unique in the cluster. Default, with discovery by etcd: the one that the node had
    /// before, else a free one.
    #[serde(default)]
    pub id: Option<u32>,
    /// Data centre or region. Default: `default`.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Folder for what the node must keep: its count of lives, spill queues, an embedded archive.
    pub data: PathBuf,
    /// How long a drain may take before the process ends anyway. Default: 30 s.
    #[serde(default = "default_drain", with = "humantime_serde")]
    pub drain_deadline: Duration,
}

impl NodeSettings {
    /// The number, where it has to be given.
    ///
    /// # Errors
    /// When it is not given, or is none that a node can have.
    pub fn id(&self) -> Result<u32, StartError> {
        let within = self.id.filter(|id| (1..=cluster::MAX_NODE_ID).contains(id));
        within.ok_or_else(|| StartError::config("node.id", format!("must be 1 to {}", cluster::MAX_NODE_ID)))
    }
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
    /// Address of the gRPC server. Default: the node's own entry in `discovery.peers`; it must be given for etcd.
    pub listen: Option<SocketAddr>,
    /// What the others call it by, `host:port`. Default: `listen`, which then must be an address of this host.
    pub advertise: Option<String>,
}

impl RpcSettings {
    /// Where to listen and what to be called by, where that does not come from a list.
    pub(crate) fn addresses(&self) -> Result<(SocketAddr, String), StartError> {
        let listen = self
            .listen
            .ok_or_else(|| StartError::config("rpc.listen", "must be given with discovery by etcd"))?;
        let advertise = match &self.advertise {
            Some(advertise) => advertise.clone(),
            None if listen.ip().is_unspecified() || listen.port() == 0 => {
                let reason = format!("must be given: nobody can call {listen}");
                return Err(StartError::config("rpc.advertise", reason));
            }
            None => listen.to_string(),
        };
        let port =
            advertise.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        if port.is_none_or(|(host, port)| host.is_empty() || port == 0) {
            return Err(StartError::config("rpc.advertise", format!("{advertise:?} is no host:port")));
        }
        Ok((listen, advertise))
    }
}

/// `[tls]`: how the services trust each other. There is no default: a cluster without certificates has to say so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum TlsSettings {
    /// Every connection between services is TLS, and both ends show a certificate of the cluster's CA. The files are
    /// read again when they change.
    Mutual {
        /// Certificates of the CA, PEM.
        ca: PathBuf,
        /// This node's certificate and what links it to the CA, PEM. It names its role: `room.longwire.internal`.
        cert: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// No TLS: whoever reaches a port is trusted. For one machine, or a network that encrypts by itself.
    Plaintext,
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
    /// Nodes register themselves in etcd, and follow it.
    Etcd(EtcdSettings),
}

/// How to reach etcd, and what to be called there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdSettings {
    /// Members, `https://host:port`, or `http://` without TLS.
    pub endpoints: Vec<String>,
    /// Name of the cluster: several can share an etcd. Default: `default`.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// How long a silent node is still taken to be there. Default: 5 s, at least 2 s.
    #[serde(default = "default_lease", with = "humantime_serde")]
    pub lease: Duration,
    /// CA of etcd's certificates, PEM. Default: that of `[tls]`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// This client's certificate, PEM. Default: that of `[tls]`.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM. Default: that of `[tls]`.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

impl EtcdSettings {
    /// With the certificates of `[tls]` where none of its own are given.
    ///
    /// # Errors
    /// Names the key and what is wrong with its value.
    pub fn options(&self, tls: &TlsSettings) -> Result<EtcdOptions, StartError> {
        let own = match tls {
            TlsSettings::Mutual { ca, cert, key } => [Some(ca), Some(cert), Some(key)],
            TlsSettings::Plaintext => [None; 3],
        };
        let [ca, cert, key] =
            [self.ca.as_ref().or(own[0]), self.cert.as_ref().or(own[1]), self.key.as_ref().or(own[2])];
        let tls = match (ca, cert, key) {
            (Some(ca), Some(cert), Some(key)) => {
                Some(EtcdTls { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
            }
            (None, None, None) => None,
            _ => {
                return Err(StartError::config(
                    "discovery.ca",
                    "ca, cert and key are given together or not at all",
                ));
            }
        };
        let options = EtcdOptions {
            endpoints: self.endpoints.clone(),
            cluster: self.cluster.clone(),
            lease: self.lease,
            tls,
        };
        options.check().map_err(|error| match error {
            EtcdError::Options { field, reason } => StartError::config(format!("discovery.{field}"), reason),
            other => StartError::other(other),
        })?;
        Ok(options)
    }
}

fn default_cluster() -> String {
    "default".to_owned()
}

/// A pause of three seconds (a stalled disk) is not a death, and users of a dead node wait no longer than this.
fn default_lease() -> Duration {
    Duration::from_secs(5)
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
    /// Where to. Default: `json` to standard output, `text` to standard error. The file may be moved away at any time:
    /// within a second, or at SIGHUP, a new one is begun. Lines that the disk does not take are dropped and counted; up
    /// to 4 MiB of them wait in memory.
    pub file: Option<PathBuf>,
    /// Size in bytes at which the file becomes `<file>.1`, that `<file>.2`, and so on. Default: 64 MiB, at least 64 KiB.
    pub max_bytes: u64,
    /// How many of those are kept. Default: 5.
    pub keep: u32,
}

/// Smaller files would be moved at each burst of lines.
pub(crate) const MIN_LOG_BYTES: u64 = 64 << 10;

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
            file: None,
            // With those that are kept, days of a quiet node and hours of one in trouble, in 384 MiB.
            max_bytes: 64 << 20,
            keep: 5,
        }
    }
}
