//! A service's handle to the cluster.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Discovery, DiscoveryError, LocalServices, Me, NodeInfo, Picture, Tls, Transport};

/// What a service knows of the cluster and reaches it with. Clones share everything.
#[derive(Clone)]
pub struct Cluster {
    discovery: Arc<dyn Discovery>,
    local: LocalServices,
    me: Arc<Me>,
    tls: Option<Tls>,
}

impl Cluster {
    /// A handle for the node `me`, that calls others in plaintext.
    pub fn new(discovery: Arc<dyn Discovery>, local: LocalServices, me: Arc<Me>) -> Self {
        Self { discovery, local, me, tls: None }
    }

    /// Calls other nodes over TLS, if `tls` is there.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// This node.
    pub fn me(&self) -> &Arc<Me> {
        &self.me
    }

    /// Name of the cluster, if it has one of its own.
    pub fn name(&self) -> Option<&str> {
        self.discovery.name()
    }

    /// The cluster as it is now.
    pub fn now(&self) -> Arc<Picture> {
        self.discovery.picture().borrow().clone()
    }

    /// Follows the cluster.
    pub fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.discovery.picture()
    }

    /// Counts the lapses of this node's registration: see [`Discovery::lapses`]. The channel may close; then there will
    /// be none.
    pub fn lapses(&self) -> watch::Receiver<u64> {
        self.discovery.lapses()
    }

    /// A new transport to a node. Keep it and clone it: each new one is a new connection.
    ///
    /// # Errors
    /// When the node's address is not `host:port`.
    pub fn transport(&self, node: &NodeInfo) -> Result<Transport, tonic::transport::Error> {
        match &node.rpc {
            Some(address) => Transport::connect(address, node.role, self.tls.as_ref()),
            None => Ok(Transport::local(node.id, self.local.clone())),
        }
    }

    /// The services of this process.
    pub fn local(&self) -> &LocalServices {
        &self.local
    }

    /// Enters this node into the cluster.
    ///
    /// # Errors
    /// When discovery refuses the node.
    pub async fn join(&self) -> Result<(), DiscoveryError> {
        self.discovery.join(self.me.clone()).await
    }

    /// Takes this node out of the cluster.
    pub async fn leave(&self) {
        self.discovery.leave(&self.me).await;
    }
}
