//! What a coordinator counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

use crate::event::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    kind: &'static str,
    outcome: &'static str,
}

/// What became of a request to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    Delivered,
    Refused,
    Failed,
}

/// What became of an event that a room handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Taken,
    /// The app wants no such events.
    NoRoute,
    /// Memory, disk or the directory was not there.
    Retry,
}

/// Counters of a coordinator; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorMetrics {
    received: Family<OutcomeLabel, Counter>,
    posts: Family<OutcomeLabel, Counter>,
    post_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    dead_letters: Family<KindLabel, Counter>,
    pub(crate) lanes: Gauge,
    pub(crate) spilled: Counter,
    pub(crate) spilled_bytes: Gauge,
    pub(crate) breaker_opened: Counter,
    pub(crate) breaker_closed: Counter,
    pub(crate) kicks: Counter,
}

impl Default for CoordinatorMetrics {
    fn default() -> Self {
        CoordinatorMetrics {
            received: Family::default(),
            posts: Family::default(),
            // 1 ms to 16 s.
            post_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            dead_letters: Family::default(),
            lanes: Gauge::default(),
            spilled: Counter::default(),
            spilled_bytes: Gauge::default(),
            breaker_opened: Counter::default(),
            breaker_closed: Counter::default(),
            kicks: Counter::default(),
        }
    }
}

impl CoordinatorMetrics {
    pub(crate) fn register(metrics: &service::Metrics) -> CoordinatorMetrics {
        let ours = CoordinatorMetrics::default();
        metrics.register("coordinator", |r| {
            r.register("events", "Events from rooms, by what became of them", ours.received.clone());
            r.register("posts", "Requests to backends, by how they ended", ours.posts.clone());
            r.register("post_seconds", "Time of a request to a backend", ours.post_seconds.clone());
            r.register("dead_letters", "Events given up", ours.dead_letters.clone());
            r.register("lanes", "Callbacks of apps that have had events", ours.lanes.clone());
            r.register("spilled_events", "Events put into the durable queue", ours.spilled.clone());
            r.register("spilled_bytes", "Bytes that wait in the durable queue", ours.spilled_bytes.clone());
            r.register("breakers_opened", "Backends found failing", ours.breaker_opened.clone());
            r.register("breakers_closed", "Backends found back", ours.breaker_closed.clone());
            r.register("kicks", "Sessions ended for an app", ours.kicks.clone());
        });
        ours
    }

    pub(crate) fn received(&self, kind: Kind, received: Received) {
        let outcome = match received {
            Received::Taken => "taken",
            Received::NoRoute => "no_route",
            Received::Retry => "retry",
        };
        self.received.get_or_create(&OutcomeLabel { kind: kind.as_str(), outcome }).inc();
    }

    pub(crate) fn posted(&self, kind: Kind, posted: Posted, time: Duration) {
        let outcome = match posted {
            Posted::Delivered => "delivered",
            Posted::Refused => "refused",
            Posted::Failed => "failed",
        };
        self.posts.get_or_create(&OutcomeLabel { kind: kind.as_str(), outcome }).inc();
        self.post_seconds.get_or_create(&KindLabel { kind: kind.as_str() }).observe(time.as_secs_f64());
    }

    pub(crate) fn dead(&self, kind: Kind) {
        self.dead_letters.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }
}
