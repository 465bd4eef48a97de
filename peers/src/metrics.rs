//! What calls to peers cost and how they fail.

use cluster::Role;
use flow::FlowMetrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::PeerError;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabel {
    role: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

/// Counters of all peers of a process; clones share them.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    flow: FlowMetrics,
    rpc: Family<CallLabel, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabel, Counter>,
    retries: Family<RoleLabel, Counter>,
}

impl Default for PeerMetrics {
    fn default() -> Self {
        Self::new(&FlowMetrics::default())
    }
}

impl PeerMetrics {
    /// Counters that count queues and batches in `flow`.
    #[must_use]
    pub fn new(flow: &FlowMetrics) -> Self {
        Self {
            flow: flow.clone(),
            // 100 µs to 6.5 s, past the longest time-out.
            rpc: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-4, 4.0, 9))),
            failures: Family::default(),
            retries: Family::default(),
        }
    }

    /// Names the counters in `registry`: `peer_rpc_seconds`, `peer_failures_total`, `peer_retries_total`. Those of the
    /// queues are `flow`'s to register.
    pub fn register(&self, registry: &mut Registry) {
        let peer = registry.sub_registry_with_prefix("peer");
        peer.register("rpc_seconds", "Time of one request to a peer, by kind of call", self.rpc.clone());
        peer.register("failures", "Calls that failed for good, by role of the peer", self.failures.clone());
        peer.register("retries", "Attempts after the first, by role of the peer", self.retries.clone());
    }

    pub(crate) fn flow(&self) -> &FlowMetrics {
        &self.flow
    }

    pub(crate) fn rpc(&self, call: &'static str) -> Histogram {
        self.rpc.get_or_create_owned(&CallLabel { call })
    }

    pub(crate) fn failed(&self, role: Role, error: &PeerError) {
        let label = FailureLabel { role: role.as_str(), error: error.outcome().label };
        self.failures.get_or_create(&label).inc();
    }

    pub(crate) fn retried(&self, role: Role) {
        self.retries.get_or_create(&RoleLabel { role: role.as_str() }).inc();
    }
}
