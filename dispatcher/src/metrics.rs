//! What a dispatcher counts.

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

use crate::{error::RouteError, routes::Route};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    network: &'static str,
    outcome: &'static str,
}

/// Counters of a dispatcher; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct DispatcherMetrics {
    routes: Family<Asked, Counter>,
    with_tried: Counter,
    wait: Histogram,
    pub(crate) rooms: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
}

impl DispatcherMetrics {
    pub(crate) fn register(metrics: &service::Metrics) -> DispatcherMetrics {
        let ours = DispatcherMetrics {
            routes: Family::default(),
            with_tried: Counter::default(),
            // 10 ms to 3 min.
            wait: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
            rooms: Gauge::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
        };
        metrics.register("dispatcher", |r| {
            r.register("routes", "Questions for a route, by outcome", ours.routes.clone());
            r.register("routes_with_tried", "Questions of devices that had failed", ours.with_tried.clone());
            r.register("slot_wait_seconds", "Waits handed out to spread a storm", ours.wait.clone());
            r.register("rooms", "Rooms that take devices", ours.rooms.clone());
            r.register("connections_opened", "Connections taken", ours.connections_opened.clone());
            r.register("connections_closed", "Connections ended", ours.connections_closed.clone());
        });
        ours
    }

    pub(crate) fn answered(&self, network: &'static str, tried: bool, answer: &Result<Route, RouteError>) {
        let outcome = match answer {
            Ok(route) => {
                if route.connect_after > Duration::ZERO {
                    self.wait.observe(route.connect_after.as_secs_f64());
                }
                "ok"
            }
            Err(error) => error.code(),
        };
        self.routes.get_or_create(&Asked { network, outcome }).inc();
        if tried {
            self.with_tried.inc();
        }
    }
}
