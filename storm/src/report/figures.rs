//! What happened within a span of time.

use serde::{Deserialize, Serialize};

use crate::{
    fleet::{Counts, Interval},
    latency::Percentiles,
};

/// What was sent, and what became of it at the centers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Pushes sent.
    pub pushes: u64,
    /// Of them: accepted.
    pub accepted: u64,
    /// Of the accepted: not online (transient only), so nothing will arrive.
    pub offline: u64,
    /// Pushes and broadcasts that were not accepted.
    pub failed: u64,
    /// Broadcasts that were accepted.
    pub broadcasts: u64,
}

impl Sent {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            pushes: self.pushes + other.pushes,
            accepted: self.accepted + other.accepted,
            offline: self.offline + other.offline,
            failed: self.failed + other.failed,
            broadcasts: self.broadcasts + other.broadcasts,
        }
    }

    /// Messages that must have reached a user.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.accepted.saturating_sub(self.offline)
    }
}

/// What happened within a span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// How long.
    pub span_s: f64,
    /// What was sent.
    pub sent: Sent,
    /// What the devices did; `bound` and `slow` are those at the end.
    pub counts: Counts,
    /// Bindings per second.
    pub binds_per_s: f64,
    /// Messages per second that reached their users.
    pub messages_per_s: f64,
    /// Deliveries of broadcasts per second.
    pub deliveries_per_s: f64,
    /// Accepted and not arrived. Only known of a whole run.
    pub lost: Option<u64>,
    /// Arrived more often than sent. Only known of a whole run.
    pub doubled: Option<u64>,
    /// Arrived in a place that did not ascend, or at the wrong user. Only known of a whole run.
    pub disordered: Option<u64>,
    /// From the beginning of a connection to its binding.
    pub connect: Percentiles,
    /// From the intended sending to acceptance by a center.
    pub accept: Percentiles,
    /// From the intended sending to the app on the device.
    pub delivery: Percentiles,
    /// Likewise to the device's ack.
    pub acked: Percentiles,
    /// Likewise for broadcasts, each delivery.
    pub broadcast: Percentiles,
}

impl Figures {
    /// From the differences of a span.
    #[must_use]
    pub fn new(span_s: f64, sent: Sent, counts: Counts, measured: &Interval) -> Self {
        let per_s = |count: u64| if span_s > 0.0 { count as f64 / span_s } else { 0.0 };
        Self {
            span_s,
            sent,
            counts,
            binds_per_s: per_s(counts.binds),
            messages_per_s: per_s(counts.messages + counts.transients),
            deliveries_per_s: per_s(counts.broadcasts),
            connect: measured.connect.percentiles(),
            delivery: measured.delivery.percentiles(),
            acked: measured.acked.percentiles(),
            broadcast: measured.broadcast.percentiles(),
            ..Self::default()
        }
    }

    /// Both together.
    #[must_use]
    pub fn arrivals_per_s(&self) -> f64 {
        self.messages_per_s + self.deliveries_per_s
    }
}
