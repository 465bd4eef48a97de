//! A cluster in memory.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use cluster::{Cluster, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::Limits;

/// Nodes that come and go. The caller of the peers is a center with id 1000.
pub(super) struct Town {
    pub(super) cluster: Cluster,
    pub(super) cancel: CancellationToken,
    discovery: Embedded,
    local: LocalServices,
    nodes: HashMap<NodeId, Arc<Me>>,
}

impl Town {
    pub(super) fn new() -> Self {
        let (discovery, local) = (Embedded::default(), LocalServices::default());
        let me = Arc::new(Me::new(Role::Center, NodeId(1000), Incarnation(1), "z", None));
        let cluster = Cluster::new(Arc::new(discovery.clone()), local.clone(), me);
        Self { cluster, cancel: CancellationToken::new(), discovery, local, nodes: HashMap::new() }
    }

    pub(super) async fn add(&mut self, role: Role, id: u32, routes: Routes) {
        self.local.insert(NodeId(id), routes);
        self.enter(role, id, None).await;
    }

    /// A node that is reached over the network.
    pub(super) async fn add_remote(&mut self, role: Role, id: u32, address: SocketAddr) {
        self.enter(role, id, Some(address.to_string())).await;
    }

    async fn enter(&mut self, role: Role, id: u32, rpc: Option<String>) {
        let id = NodeId(id);
        let me = Arc::new(Me::new(role, id, Incarnation(1), "z", rpc));
        me.set_state(NodeState::Ready);
        Cluster::new(Arc::new(self.discovery.clone()), self.local.clone(), me.clone()).join().await.unwrap();
        self.nodes.insert(id, me);
        settle().await;
    }

    /// The node does not answer any more, but nobody has noticed.
    pub(super) fn kill(&self, id: u32) {
        self.local.remove(NodeId(id));
    }

    pub(super) async fn set_state(&self, id: u32, state: NodeState) {
        self.nodes[&NodeId(id)].set_state(state);
        settle().await;
    }

    /// The node leaves the picture; what it was asked before still runs.
    pub(super) async fn leave(&mut self, id: u32) {
        let me = self.nodes.remove(&NodeId(id)).unwrap();
        Cluster::new(Arc::new(self.discovery.clone()), self.local.clone(), me).leave().await;
        settle().await;
    }

    pub(super) fn owner(&self, role: Role, key: u64) -> u32 {
        self.cluster.now().owner(role, key).unwrap().id.0
    }
}

pub(super) fn limits() -> Limits {
    Limits { rpc_timeout: Duration::from_secs(2), ..Limits::default() }
}

/// Lets every task that can run do so, without moving the clock.
pub(super) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
