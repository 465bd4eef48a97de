//! What a center counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabel {
    api: &'static str,
    code: String,
}

/// What became of one stored message on its way to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The room has it.
    Sent,
    /// The user is not online; it waits in the inbox.
    Offline,
    /// The user left the room meanwhile; its next bind loads the inbox.
    Moved,
    /// The register is being rebuilt; the sweeper delivers.
    Rebuilding,
    /// The stage was full; the sweeper delivers.
    Full,
    /// A register or room failed or was slow; the sweeper delivers.
    Failed,
}

/// The counters of one center. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    accepted: Family<KindLabel, Counter>,
    pub(crate) unicast: Counter,
    pub(crate) multicast: Counter,
    pub(crate) broadcast: Counter,
    pub(crate) transient: Counter,
    errors: Family<ErrorLabel, Counter>,
    delivery: Family<OutcomeLabel, Counter>,
    delivered: [Counter; 6],
    store_seconds: Histogram,
    pub(crate) key_lookups: Counter,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) http2_refused: Counter,
    pub(crate) notices_shed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let accepted = Family::<KindLabel, Counter>::default();
        let delivery = Family::<OutcomeLabel, Counter>::default();
        // Looked up once, so that the hot path takes no lock of a family.
        let of = |kind| accepted.get_or_create_owned(&KindLabel { kind });
        let outcomes = ["sent", "offline", "moved", "rebuilding", "full", "failed"];
        Self {
            unicast: of("unicast"),
            multicast: of("multicast"),
            broadcast: of("broadcast"),
            transient: of("transient"),
            delivered: outcomes.map(|outcome| delivery.get_or_create_owned(&OutcomeLabel { outcome })),
            accepted,
            errors: Family::default(),
            delivery,
            // 100 µs to 26 s: below no store is durable, above every caller has given up.
            store_seconds: Histogram::new(exponential_buckets(100e-6, 4.0, 10)),
            key_lookups: Counter::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            http2_refused: Counter::default(),
            notices_shed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Names the counters in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("push_accepted", "Pushes accepted, by kind", self.accepted.clone());
        registry.register(
            "request_errors",
            "Requests refused or failed, by API and word",
            self.errors.clone(),
        );
        registry.register(
            "delivery_messages",
            "Stored messages on their way to the rooms, by what became of them; full, failed and rebuilding are \
             left to the saver's sweeper",
            self.delivery.clone(),
        );
        registry.register(
            "push_store_seconds",
            "Time from the call of the saver to the durable answer",
            self.store_seconds.clone(),
        );
        registry.register("key_lookups", "API keys looked up at a saver", self.key_lookups.clone());
        registry.register("connections_opened", "Connections to the API", self.connections_opened.clone());
        registry.register(
            "connections_closed",
            "Connections to the API that ended",
            self.connections_closed.clone(),
        );
        registry.register(
            "http2_connections_refused",
            "Connections to the API that spoke HTTP/2 when there was no place for another such",
            self.http2_refused.clone(),
        );
        registry.register(
            "broadcast_notices_shed",
            "Broadcasts that the rooms were not told of at once because the stage was full; they poll the log",
            self.notices_shed.clone(),
        );
    }

    pub(crate) fn failed(&self, api: &'static str, code: &str) {
        self.errors.get_or_create(&ErrorLabel { api, code: code.to_owned() }).inc();
    }

    pub(crate) fn delivered(&self, outcome: Delivered) {
        self.delivered[outcome as usize].inc();
    }

    /// How often a stored message came to this end.
    #[cfg(test)]
    pub(crate) fn delivered_count(&self, outcome: Delivered) -> u64 {
        self.delivered[outcome as usize].get()
    }

    pub(crate) fn stored_after(&self, elapsed: Duration) {
        self.store_seconds.observe(elapsed.as_secs_f64());
    }
}
