//! What queues and batches do, for Prometheus.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BoundLabel {
    queue: &'static str,
    outcome: &'static str,
}

/// Counters of all batchers and pools of a process; clones share them. The label `queue` is the name given at
/// construction, so queues of one name (one for each peer, say) are counted together and their number is bounded.
#[derive(Clone, Debug)]
pub struct FlowMetrics {
    depth: Family<QueueLabel, Gauge>,
    full: Family<BoundLabel, Counter>,
    batch_items: Family<QueueLabel, Histogram, fn() -> Histogram>,
    wait: Family<QueueLabel, Histogram, fn() -> Histogram>,
}

impl Default for FlowMetrics {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            full: Family::default(),
            // 1 to 4,096 items.
            batch_items: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 13))),
            // 50 µs to 13 s: below is noise of the scheduler, above every caller has given up.
            wait: Family::new_with_constructor(|| Histogram::new(exponential_buckets(50e-6, 4.0, 10))),
        }
    }
}

impl FlowMetrics {
    /// Names the counters in `registry`: `flow_queue_depth`, `flow_full_total`, `flow_batch_items` and
    /// `flow_wait_seconds`.
    pub fn register(&self, registry: &mut Registry) {
        let flow = registry.sub_registry_with_prefix("flow");
        flow.register("queue_depth", "Items that wait in a queue", self.depth.clone());
        flow.register("full", "Items that met a full queue, by what became of them", self.full.clone());
        flow.register("batch_items", "Items in each batch sent", self.batch_items.clone());
        flow.register(
            "wait_seconds",
            "Time in the queue: of the oldest item of each batch, or of each item of a pool",
            self.wait.clone(),
        );
    }

    /// The histogram of items in each batch of a queue, for who packs batches without a batcher.
    #[must_use]
    pub fn batch_items(&self, queue: &'static str) -> Histogram {
        self.batch_items.get_or_create_owned(&QueueLabel { queue })
    }

    /// The counters of one queue, looked up once so that the hot path takes no lock of a family.
    pub(crate) fn queue(&self, queue: &'static str) -> QueueMetrics {
        let label = QueueLabel { queue };
        let bound = |outcome| self.full.get_or_create_owned(&BoundLabel { queue, outcome });
        QueueMetrics {
            depth: self.depth.get_or_create_owned(&label),
            refused: bound("refused"),
            retried: bound("retried"),
            shed: bound("shed"),
            spilled: bound("spilled"),
            batch_items: self.batch_items.get_or_create_owned(&label),
            wait: self.wait.get_or_create_owned(&label),
        }
    }
}

/// The counters of one queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueMetrics {
    pub(crate) depth: Gauge,
    pub(crate) refused: Counter,
    pub(crate) retried: Counter,
    pub(crate) shed: Counter,
    pub(crate) spilled: Counter,
    pub(crate) batch_items: Histogram,
    pub(crate) wait: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn names_as_documented() {
        let metrics = FlowMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let q = metrics.queue("saver_append");
        q.depth.inc();
        q.refused.inc();
        q.batch_items.observe(3.0);
        q.wait.observe(0.001);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodes");
        for line in [
            "flow_queue_depth{queue=\"saver_append\"} 1",
            "flow_full_total{queue=\"saver_append\",outcome=\"refused\"} 1",
            "flow_batch_items_count{queue=\"saver_append\"} 1",
            "flow_wait_seconds_count{queue=\"saver_append\"} 1",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
