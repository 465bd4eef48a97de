//! `config` and `node` on the command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use cluster::{NodeId, Role, etcd::Target};

/// Where the cluster is, and who asks.
#[derive(Clone, Debug, Args)]
pub struct Operator {
    /// Members of etcd, `https://host:port`, or `http://` without TLS.
    #[arg(long, value_name = "URL[,URL]", env = "LONGWIRE_ETCD", value_delimiter = ',', required = true)]
    pub etcd: Vec<String>,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME", env = "LONGWIRE_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// Certificate of the cluster's CA, PEM.
    #[arg(long, value_name = "FILE", env = "LONGWIRE_CA", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// The operator's certificate, PEM.
    #[arg(long, value_name = "FILE", env = "LONGWIRE_CERT", requires_all = ["ca", "key"])]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", env = "LONGWIRE_CERT_KEY", requires_all = ["ca", "cert"])]
    pub key: Option<PathBuf>,
}

/// Whose configuration.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// dispatcher, room, register, coordinator, saver or center.
    pub role: Role,
    /// Of this node only. [default: of every node of the role]
    #[arg(long, value_name = "ID")]
    pub node: Option<u32>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

impl Whose {
    /// The target in etcd.
    pub fn target(&self) -> Target {
        self.node.map_or(Target::Default, |id| Target::Node(NodeId(id)))
    }
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Print what the cluster keeps.
    Get(ConfigGet),
    /// Check a configuration, write it, and tell which nodes took it.
    Set(ConfigSet),
    /// Show which values differ, defaults included.
    Diff(ConfigDiff),
    /// List the changes, or print the text of one.
    History(ConfigHistory),
}

/// `config get`.
#[derive(Clone, Debug, Args)]
pub struct ConfigGet {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub whose: Whose,
    /// All keys: built-in defaults, and the cluster's configuration over them. What the files of the nodes say is not in it.
    #[arg(long)]
    pub effective: bool,
}

/// `config set`.
#[derive(Clone, Debug, Args)]
pub struct ConfigSet {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub whose: Whose,
    /// A TOML file with keys of the role's own section; `-` = standard input; or `key=value` to change single keys, `key=`
    /// to remove one.
    #[arg(required_unless_present = "history", conflicts_with = "history", value_name = "FILE|-|KEY=VALUE")]
    pub what: Vec<String>,
    /// The text that this change of the history had set.
    #[arg(long, value_name = "NUMBER")]
    pub history: Option<u64>,
    /// Who changes it, for the history. [default: user@host]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `config diff`.
#[derive(Clone, Debug, Args)]
pub struct ConfigDiff {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub whose: Whose,
    /// From this change of the history. [default: for a node, what its role has; for a role, what is built in]
    #[arg(long, value_name = "NUMBER", conflicts_with = "file")]
    pub from: Option<u64>,
    /// To this change of the history. [default: to what is there now]
    #[arg(long, value_name = "NUMBER", requires = "from")]
    pub to: Option<u64>,
    /// From what is there now to this file; `-` = standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<String>,
}

/// `config history`.
#[derive(Clone, Debug, Args)]
pub struct ConfigHistory {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub whose: Whose,
    /// Print the text that this change set.
    pub number: Option<u64>,
}

/// `node`.
#[derive(Clone, Debug, Subcommand)]
pub enum Node {
    /// List the nodes of the cluster.
    List(NodeList),
    /// Show load and rates, every two seconds; once where standard output is no terminal.
    Top(NodeTop),
    /// Let a node finish what it has, and end it.
    Drain(NodeDrain),
}

/// `node list`.
#[derive(Clone, Debug, Args)]
pub struct NodeList {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
    /// One JSON array.
    #[arg(long)]
    pub json: bool,
}

/// `node top`.
#[derive(Clone, Debug, Args)]
pub struct NodeTop {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// `node drain`.
#[derive(Clone, Debug, Args)]
pub struct NodeDrain {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
    /// The node, e.g. room/4.
    pub node: NodeName,
    /// How long to wait until it is gone. [default: 60s]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME", default_value = "60s")]
    pub timeout: Duration,
}

/// Role and number of a node, `room/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeName(pub Role, pub NodeId);

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, id) = text.split_once('/').ok_or("a node is named ROLE/ID, e.g. room/4")?;
        let id = id.parse().map_err(|_| format!("{id:?} is no number of a node"))?;
        Ok(Self(role.parse().map_err(|e: cluster::UnknownRole| e.to_string())?, NodeId(id)))
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}
