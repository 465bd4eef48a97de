//! What a center's part in broadcast jobs is done with.

use std::sync::Arc;

use cluster::{Cluster, NodeId, Picture};
use peers::{Centers, Rooms, Savers};

use crate::metrics::Metrics;

/// The time on the wall, ms since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The services that jobs need. Clones share them.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) cluster: Cluster,
    pub(crate) savers: Savers,
    pub(crate) rooms: Rooms,
    pub(crate) centers: Centers,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl Reach {
    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    pub(crate) fn picture(&self) -> Arc<Picture> {
        self.cluster.now()
    }

    pub(crate) fn me(&self) -> NodeId {
        self.cluster.me().id()
    }
}
