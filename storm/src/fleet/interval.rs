//! What devices measured within a span of time.

use serde::{Deserialize, Serialize};

use crate::latency::Latencies;

/// Latencies of a span of time, or of a whole run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Interval {
    /// From the beginning of a connection to its binding.
    pub connect: Latencies,
    /// From the moment a message was meant to be sent to its arrival at the app.
    pub delivery: Latencies,
    /// Likewise to the moment when the ack that covers it was written.
    pub acked: Latencies,
    /// The same as `delivery` for broadcasts, per delivery.
    pub broadcast: Latencies,
}

impl Interval {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.connect.merge(&other.connect);
        self.delivery.merge(&other.delivery);
        self.acked.merge(&other.acked);
        self.broadcast.merge(&other.broadcast);
    }
}
