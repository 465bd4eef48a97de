//! The seam between the cluster and whatever keeps its picture.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{Me, Picture};

/// Keeps a picture of the cluster. Back ends: [`crate::Embedded`] (one process),
/// [`crate::StaticPeers`] (a list), [`crate::etcd::EtcdDiscovery`].
pub trait Discovery: Send + Sync + 'static {
    /// Follows the picture. When the back end is away the last picture stays ("fail static").
    fn picture(&self) -> watch::Receiver<Arc<Picture>>;

    /// Enters this node and publishes every change of `me` from then on.
    fn join(&self, me: Arc<Me>) -> BoxFuture<'_, Result<(), DiscoveryError>>;

    /// Counts how often this node's registration has lapsed (its lease ended before it could be kept alive), so that
    /// others may have taken the node for dead and another for its heir. The count grows *before* the node registers
    /// again: whoever holds state for which the node was responsible (sessions, rebuilds) starts anew then. Back ends
    /// without leases never count.
    fn lapses(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }

    /// Name of the cluster, where it has one of its own: several may share what is behind this.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Takes the node out; nobody is sent to it any more.
    fn leave<'a>(&'a self, me: &'a Me) -> BoxFuture<'a, ()>;
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Another node has the number.
    #[error("node id {0} is taken")]
    Taken(crate::NodeId),
    /// A fixed list of peers does not have the node.
    #[error("discovery.peers has no {role} with id {id}: add it, or correct node.id")]
    NotListed {
        /// Role that looked for itself.
        role: crate::Role,
        /// Its id.
        id: crate::NodeId,
    },
    /// Another node has the number and keeps it.
    #[error(
        "node id {id} is taken by a {role} on host {host:?} (process {process}): give one of them another node.id, or none",
        role = by.role, host = by.host, process = by.process
    )]
    Held {
        /// The number.
        id: crate::NodeId,
        /// Who has it.
        by: Box<crate::etcd::Holder>,
    },
    /// All numbers are taken.
    #[error("all {} node ids are taken", crate::MAX_NODE_ID)]
    NoFreeId,
    /// Another process of the same role keeps its things in the same folder.
    #[error(
        "the data folder {path} is in use by another {role}: end that one, or name another folder (node.data)"
    )]
    InUse {
        /// The folder.
        path: std::path::PathBuf,
        /// The role.
        role: crate::Role,
    },
    /// What the node must keep cannot be kept.
    #[error("{path}: {source}")]
    Folder {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The count of lives could not be kept.
    #[error(transparent)]
    Incarnation(#[from] crate::IncarnationError),
    /// A wrong option of etcd.
    #[error("discovery.{0}")]
    Etcd(#[from] crate::etcd::EtcdError),
}
