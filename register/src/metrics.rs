//! What a register counts.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::Counter, gauge::ConstGauge},
};

use crate::store::Store;

/// Counters of a register; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegisterMetrics {
    pub(crate) binds: Counter,
    pub(crate) unbinds: Counter,
    pub(crate) unbinds_stale: Counter,
    pub(crate) look_ups: Counter,
    pub(crate) replaced: Counter,
    pub(crate) kicks_dropped: Counter,
    pub(crate) kicks_failed: Counter,
    pub(crate) purged: Counter,
    pub(crate) not_owner: Counter,
    pub(crate) restored: Counter,
    pub(crate) rebuilds: Counter,
    pub(crate) moved: Counter,
}

impl RegisterMetrics {
    pub(crate) fn register(metrics: &service::Metrics, store: Arc<Store>) -> RegisterMetrics {
        let ours = RegisterMetrics::default();
        metrics.register("register", |r| {
            r.register("binds", "Sessions entered", ours.binds.clone());
            r.register("unbinds", "Sessions removed", ours.unbinds.clone());
            r.register(
                "unbinds_stale",
                "Unbinds whose session was not there any more",
                ours.unbinds_stale.clone(),
            );
            r.register("look_ups", "Users looked up", ours.look_ups.clone());
            r.register("replaced", "Sessions displaced by another of the same user", ours.replaced.clone());
            r.register(
                "kicks_dropped",
                "Kicks of replaced sessions that met a full queue",
                ours.kicks_dropped.clone(),
            );
            r.register(
                "kicks_failed",
                "Kicks of replaced sessions that the room did not get",
                ours.kicks_failed.clone(),
            );
            r.register("purged_sessions", "Sessions of rooms that are gone", ours.purged.clone());
            r.register(
                "binds_not_owner",
                "Binds of users whom another register owns",
                ours.not_owner.clone(),
            );
            r.register("restored_sessions", "Sessions that rooms told again", ours.restored.clone());
            r.register("rebuilds", "Times that sessions had to be told again", ours.rebuilds.clone());
            r.register(
                "moved_sessions",
                "Sessions left of users whom another register owns",
                ours.moved.clone(),
            );
            r.register_collector(Box::new(StoreCollector(store)));
        });
        ours
    }
}

/// Reads the store when metrics are asked for, so that nothing is counted twice on the hot path.
#[derive(Debug)]
struct StoreCollector(Arc<Store>);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in [
            ("sessions", "Sessions", self.0.len()),
            ("sessions_bytes", "Memory of the sessions, spare capacity included", self.0.allocated_bytes()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
