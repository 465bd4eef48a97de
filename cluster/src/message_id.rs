//! Message ids: time-ordered and unique without asking anybody.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::NodeId;

/// 2025-01-01T00:00:00Z in ms since 1970: message ids count from here.
pub const EPOCH_2025_MS: u64 = 1_735_689_600_000;

/// Largest node id: ten bits of a message id.
pub const MAX_NODE_ID: u32 = 1023;

/// Twelve bits: 4,096 ids a millisecond and node before the generator borrows from the future.
const COUNTER_BITS: u32 = 12;
const NODE_BITS: u32 = 10;

/// Generates message ids: ms since 2025 (42 bits), node (10 bits), counter (12 bits).
///
/// Ids of one generator strictly grow, also when the clock steps back. A node that restarts within the same
/// millisecond could repeat ids, which no process is fast enough to do; a clock that was set back across a
/// restart could too, which is why a node keeps its incarnation and operators keep NTP.
#[derive(Debug)]
pub struct MessageIds {
    node: u64,
    /// Time and counter of the last id, as one number: ms << 12 | counter.
    last: AtomicU64,
}

impl MessageIds {
    /// A generator for this node.
    pub fn new(node: NodeId) -> Self {
        Self { node: u64::from(node.0 & MAX_NODE_ID), last: AtomicU64::new(0) }
    }

    /// The next id, at the present time.
    pub fn next(&self) -> u64 {
        self.next_at(now_ms())
    }

    /// The next id, at `now_ms` (ms since 1970).
    pub fn next_at(&self, now_ms: u64) -> u64 {
        let now = now_ms.saturating_sub(EPOCH_2025_MS) << COUNTER_BITS;
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .unwrap_or_else(|last| last);
        let tick = now.max(previous + 1);
        let (ms, counter) = (tick >> COUNTER_BITS, tick & ((1 << COUNTER_BITS) - 1));
        ms << (COUNTER_BITS + NODE_BITS) | self.node << COUNTER_BITS | counter
    }
}

/// When a message was accepted, ms since 1970, read from its id.
pub fn accepted_ms_of(id: u64) -> u64 {
    (id >> (COUNTER_BITS + NODE_BITS)) + EPOCH_2025_MS
}

/// Wall clock, ms since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_when_the_clock_steps_back() {
        let ids = MessageIds::new(NodeId(5));
        let t = EPOCH_2025_MS + 1_000;
        let mut last = 0;
        for now in [t, t, t + 1, t - 500, t - 500, t + 2] {
            let id = ids.next_at(now);
            assert!(id > last);
            last = id;
        }
        assert_eq!(accepted_ms_of(ids.next_at(t + 10)), t + 10);
    }

    #[test]
    fn borrows_from_the_future_when_one_millisecond_is_full() {
        let ids = MessageIds::new(NodeId(1));
        let t = EPOCH_2025_MS + 1;
        let all: Vec<_> = (0..10_000).map(|_| ids.next_at(t)).collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn nodes_never_meet() {
        let (a, b) = (MessageIds::new(NodeId(1)), MessageIds::new(NodeId(2)));
        let t = EPOCH_2025_MS + 77;
        let of_a: std::collections::HashSet<_> = (0..5_000).map(|_| a.next_at(t)).collect();
        assert!((0..5_000).all(|_| !of_a.contains(&b.next_at(t))));
    }
}
