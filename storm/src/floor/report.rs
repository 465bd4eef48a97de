//! What the floor says.

use std::fmt;

use serde::Serialize;

use crate::latency::Percentiles;

/// What the kernel allows.
#[derive(Debug, Clone, Serialize)]
pub struct FloorReport {
    /// Connections.
    pub connections: u32,
    /// Bytes of a message.
    pub payload: usize,
    /// Connections opened, each with one request and one answer, per second.
    pub connects_per_second: f64,
    /// Growth of the server's resident memory for each connection, bytes.
    pub bytes_per_connection: f64,
    /// The bare loop: sends per second while the server does nothing else, receivers reading meanwhile.
    pub sends_per_second: f64,
    /// Deliveries per second, the next round when all have the one before.
    pub round_by_round_per_second: f64,
    /// Deliveries per second with ten rounds outstanding, each sent by itself.
    pub ten_rounds_per_second: f64,
    /// Deliveries per second when ten messages leave in each send.
    pub ten_merged_per_second: f64,
    /// Deliveries per second when every receiver answers each, the next round when all answers are there.
    pub acked_per_second: f64,
    /// The same with ten rounds outstanding; one answer does for all that one read brought.
    pub ten_acked_per_second: f64,
    /// Single messages per second with a window.
    pub singles_per_second: f64,
    /// From the request for a single message to its arrival.
    pub singles: Percentiles,
}

impl fmt::Display for FloorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.sends_per_second.max(1e-9);
        writeln!(f, "floor: {} connections, {} bytes", self.connections, self.payload)?;
        writeln!(f, "connect, ask, answer:       {:>9.0}/s", self.connects_per_second)?;
        writeln!(f, "resident per connection:    {:>9.1} bytes", self.bytes_per_connection)?;
        for (name, rate) in [
            ("bare loop of send:         ", self.sends_per_second),
            ("rounds, one by one (w1):   ", self.round_by_round_per_second),
            ("rounds, ten at once (w10): ", self.ten_rounds_per_second),
            ("ten merged in one send:    ", self.ten_merged_per_second),
            ("acked, one by one (w1):    ", self.acked_per_second),
            ("acked, ten at once (w10):  ", self.ten_acked_per_second),
            ("single messages, window:   ", self.singles_per_second),
        ] {
            writeln!(f, "{name} {rate:>9.0}/s  x{:.2}", rate / bare)?;
        }
        writeln!(f, "single messages: {}", self.singles)
    }
}
