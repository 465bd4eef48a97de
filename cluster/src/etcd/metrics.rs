//! What operators see of discovery by etcd.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Metrics of discovery by etcd. Clones share the values.
#[derive(Clone, Debug, Default)]
pub struct EtcdMetrics {
    /// 1 while a member answers.
    pub(crate) connected: Gauge,
    /// Times that this node's registration ended before it was kept alive.
    pub(crate) lapses: Counter,
    /// Times that following a range of keys had to start again.
    pub(crate) watch_restarts: Counter,
    /// Number of the picture; grows with every change.
    pub(crate) picture_revision: Gauge,
    /// Seconds since the picture was last known to be etcd's; 0 while it is followed.
    pub(crate) picture_age_seconds: Gauge,
    /// Nodes in the picture, those included whose absence is not believed yet.
    pub(crate) picture_nodes: Gauge,
}

impl EtcdMetrics {
    /// Registers them, e.g. below `longwire_discovery_`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connected", "1 while a member of etcd answers", self.connected.clone());
        registry.register(
            "lapses",
            "Times that this node's registration ended before it was kept alive",
            self.lapses.clone(),
        );
        registry.register(
            "watch_restarts",
            "Times that following etcd had to start again",
            self.watch_restarts.clone(),
        );
        registry.register(
            "picture_revision",
            "Number of the picture; grows with every change",
            self.picture_revision.clone(),
        );
        registry.register(
            "picture_age_seconds",
            "Seconds since the picture was last followed; 0 while it is",
            self.picture_age_seconds.clone(),
        );
        registry.register(
            "picture_nodes",
            "Nodes in the picture, those included whose absence is not believed yet",
            self.picture_nodes.clone(),
        );
    }
}
