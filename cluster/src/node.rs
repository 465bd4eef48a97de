//! What a node is, and what it tells of itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Incarnation;

/// Number of a node, unique in its cluster: 1 to [`crate::MAX_NODE_ID`]. It is part of every message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of the six services a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Role {
    Dispatcher,
    Room,
    Register,
    Coordinator,
    Saver,
    Center,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 6] =
        [Role::Dispatcher, Role::Room, Role::Register, Role::Coordinator, Role::Saver, Role::Center];

    /// The role's word, as in configuration and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Dispatcher => "dispatcher",
            Role::Room => "room",
            Role::Register => "register",
            Role::Coordinator => "coordinator",
            Role::Saver => "saver",
            Role::Center => "center",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is none of dispatcher, room, register, coordinator, saver, center")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|r| r.as_str() == word).ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Known, but not (or not yet) serving.
    Starting,
    /// Serves.
    Ready,
    /// Serves what it has, takes nothing new.
    Draining,
    /// Does not answer. Only a back end with a fixed list keeps such nodes in the picture.
    Down,
}

/// How full a room is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Device connections now.
    pub connections: u64,
    /// Device connections at most.
    pub capacity: u64,
}

/// A node as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its service.
    pub role: Role,
    /// Its number.
    pub id: NodeId,
    /// Which life of the node this is.
    pub incarnation: Incarnation,
    /// Data centre or region; a dispatcher keeps devices in theirs.
    pub zone: String,
    /// Where it is in its life.
    pub state: NodeState,
    /// Address of its gRPC server, `host:port`; `None` for a node in this process.
    pub rpc: Option<String>,
    /// Rooms: where devices connect, `host:port` each.
    pub endpoints: Vec<String>,
    /// Rooms: how full.
    #[serde(default)]
    pub load: Load,
    /// Discovery's revision at which this registration was made; greater for every later one, also for one that a node
    /// made again because its lease had ended. 0 where discovery counts none.
    #[serde(default)]
    pub joined: u64,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// What has become of the configuration that the cluster keeps for the node.
    #[serde(default)]
    pub config: ConfigReport,
}

/// What a node tells of the configuration that discovery keeps for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigReport {
    /// Revision that the node runs; 0 = none but its own file.
    pub revision: u64,
    /// A later revision that it refused.
    pub refused: Option<Refused>,
    /// Keys whose new value needs a restart.
    pub restart: Vec<String>,
}

/// A configuration that a node refused; it goes on with the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The revision.
    pub revision: u64,
    /// The key, and what is wrong with its value.
    pub reason: String,
}

impl NodeInfo {
    /// Which life this is, for whoever keeps state on the node's behalf: a node that registers again because its lease had
    /// ended begins another one, although the process is the same. Strictly greater for each later life of the same id.
    pub fn life(&self) -> u64 {
        self.incarnation.0.max(self.joined)
    }

    /// A node of which nothing is known but its name.
    pub fn new(role: Role, id: NodeId) -> Self {
        Self {
            role,
            id,
            incarnation: Incarnation(0),
            zone: String::new(),
            state: NodeState::Starting,
            rpc: None,
            endpoints: Vec::new(),
            load: Load::default(),
            joined: 0,
            version: String::new(),
            config: ConfigReport::default(),
        }
    }
}

/// This node's own entry: the service changes it, discovery publishes every change.
#[derive(Debug)]
pub struct Me {
    id: NodeId,
    role: Role,
    incarnation: Incarnation,
    info: watch::Sender<NodeInfo>,
}

impl Me {
    /// A node that is about to start.
    pub fn new(role: Role, id: NodeId, incarnation: Incarnation, zone: &str, rpc: Option<String>) -> Self {
        let info = NodeInfo {
            incarnation,
            zone: zone.to_owned(),
            rpc,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..NodeInfo::new(role, id)
        };
        Self { id, role, incarnation, info: watch::Sender::new(info) }
    }

    /// Number of this node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Service of this node.
    pub fn role(&self) -> Role {
        self.role
    }

    /// This life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The entry as it is now.
    pub fn info(&self) -> NodeInfo {
        self.info.borrow().clone()
    }

    /// Follows the entry.
    pub fn subscribe(&self) -> watch::Receiver<NodeInfo> {
        self.info.subscribe()
    }

    /// Says where the node is in its life.
    pub fn set_state(&self, state: NodeState) {
        self.update(|info| info.state = state);
    }

    /// Rooms: says where devices connect.
    pub fn set_endpoints(&self, endpoints: Vec<String>) {
        self.update(|info| info.endpoints = endpoints);
    }

    /// Rooms: says how full the room is. Call it every second or so, not for each connection.
    pub fn set_load(&self, load: Load) {
        self.update(|info| info.load = load);
    }

    /// Says what has become of the configuration that discovery keeps for the node.
    pub fn set_config(&self, report: ConfigReport) {
        self.update(|info| info.config = report);
    }

    /// Discovery back ends: says at which revision the node has (again) been registered.
    pub fn set_joined(&self, revision: u64) {
        self.update(|info| info.joined = revision);
    }

    fn update(&self, change: impl FnOnce(&mut NodeInfo)) {
        self.info.send_if_modified(|info| {
            let before = info.clone();
            change(info);
            *info != before
        });
    }
}
