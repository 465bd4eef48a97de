//! How devices come in, by transport, and who did not get in.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::event_loop::{Entries, Reasons, TRANSPORTS};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counters of the ways in.
#[derive(Debug, Clone, Default)]
pub(super) struct LineMetrics {
    present: Family<TransportLabel, Gauge>,
    opened: Family<TransportLabel, Counter>,
    closed: Family<TransportLabel, Counter>,
    handshakes: Family<ResultLabel, Counter>,
    strangers: Family<ReasonLabel, Counter>,
    refused_upgrades: Family<ReasonLabel, Counter>,
    broken_websockets: Family<ReasonLabel, Counter>,
}

impl LineMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("lines", "Connections now, by transport", self.present.clone());
        registry.register(
            "lines_opened",
            "Connections whose transport was known, by it",
            self.opened.clone(),
        );
        registry.register("lines_closed", "Those that have ended, by transport", self.closed.clone());
        registry.register(
            "tls_handshakes",
            "TLS handshakes by result: full, full_retried, resumed, or why not",
            self.handshakes.clone(),
        );
        let strangers = "Connections that spoke nothing that is known here, by reason";
        registry.register("strangers", strangers, self.strangers.clone());
        let refused = "Requests for a WebSocket that were refused, by reason";
        registry.register("upgrades_refused", refused, self.refused_upgrades.clone());
        let broken = "WebSockets that were ended because what came was none, by reason";
        registry.register("websockets_broken", broken, self.broken_websockets.clone());
    }

    /// What has come since.
    pub(super) fn add(&self, before: &Entries, now: &Entries) {
        for (place, transport) in TRANSPORTS.into_iter().enumerate() {
            let label = TransportLabel { transport };
            let opened = now.lines.opened[place] - before.lines.opened[place];
            if opened > 0 {
                self.opened.get_or_create(&label).inc_by(opened);
            }
            let closed = now.lines.closed[place] - before.lines.closed[place];
            if closed > 0 {
                self.closed.get_or_create(&label).inc_by(closed);
            }
            // A line may have gone to another thread, so each thread's change counts.
            let more = now.lines.present[place] - before.lines.present[place];
            if more != 0 {
                self.present.get_or_create(&label).inc_by(more);
            }
        }
        for (result, count) in now.handshakes.since(&before.handshakes) {
            self.handshakes.get_or_create(&ResultLabel { result }).inc_by(count);
        }
        let add = |family: &Family<ReasonLabel, Counter>, before: &Reasons, now: &Reasons| {
            for (reason, count) in now.since(before) {
                family.get_or_create(&ReasonLabel { reason }).inc_by(count);
            }
        };
        add(&self.strangers, &before.strangers, &now.strangers);
        add(&self.refused_upgrades, &before.refused_upgrades, &now.refused_upgrades);
        add(&self.broken_websockets, &before.broken_websockets, &now.broken_websockets);
    }
}
