//! The seam between the cluster and whatever keeps its picture.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{Me, Picture};

/// Keeps a picture of the cluster. Back ends: [`crate::Embedded`] (one process), [`crate::StaticPeers`] (a list).
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
}
