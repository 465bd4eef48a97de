//! Any room, whatever its load.

use super::Strategy;
use crate::rooms::Room;

#[derive(Debug)]
pub(super) struct Random;

impl Strategy for Random {
    fn rank(&self, _key: u64, rooms: &[Room], count: usize) -> Vec<usize> {
        let count = count.min(rooms.len());
        // In the order in which they were drawn.
        rand::seq::index::sample(&mut rand::rng(), rooms.len(), count).into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::tests::{firsts, rooms};

    #[test]
    fn every_room_gets_some() {
        let counts = firsts(&Random, &rooms(&[1.0, 1000.0, 1.0]), 3_000);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
