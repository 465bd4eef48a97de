//! One room after the other.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Strategy;
use crate::rooms::Room;

#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// Counts for all zones together: each sees its rooms in turn nevertheless, as any gaps fall alike on all.
    next: AtomicUsize,
}

impl Strategy for RoundRobin {
    fn rank(&self, _key: u64, rooms: &[Room], count: usize) -> Vec<usize> {
        if rooms.is_empty() {
            return Vec::new();
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..count.min(rooms.len())).map(|n| start.wrapping_add(n) % rooms.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::tests::{firsts, rooms};

    #[test]
    fn all_get_the_same() {
        assert_eq!(firsts(&RoundRobin::default(), &rooms(&[1.0, 9.0, 1.0]), 300), [100, 100, 100]);
    }
}
