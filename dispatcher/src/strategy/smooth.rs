//! In proportion to the headroom, evenly spread over time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cluster::NodeId;

use super::{Strategy, best};
use crate::rooms::Room;

/// Smooth weighted round-robin, as nginx has it: at each pick every room gains its weight, and the one with the
/// most wins and pays the total. Weights 5, 1, 1 give a a b a c a a, and never five times a in a row.
#[derive(Debug, Default)]
pub(super) struct SmoothWeighted {
    /// What each room has gained. Rooms that left stay; there are at most as many as node ids.
    gained: Mutex<HashMap<NodeId, f64>>,
}

impl Strategy for SmoothWeighted {
    fn rank(&self, _key: u64, rooms: &[Room], count: usize) -> Vec<usize> {
        let mut gained = self.gained.lock().unwrap_or_else(PoisonError::into_inner);
        let scores: Vec<f64> = rooms
            .iter()
            .map(|room| {
                let gained = gained.entry(room.id).or_insert(0.0);
                *gained += room.weight;
                *gained
            })
            .collect();
        let total: f64 = rooms.iter().map(|room| room.weight).sum();
        let ranked = best(&scores, count.max(1));
        if let Some(first) = ranked.first()
            && let Some(gained) = gained.get_mut(&rooms[*first].id)
        {
            *gained -= total;
        }
        drop(gained);
        ranked.into_iter().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::tests::{firsts, rooms};

    #[test]
    fn is_smooth() {
        let rooms = rooms(&[5.0, 1.0, 1.0]);
        let strategy = SmoothWeighted::default();
        let picks: Vec<_> = (0..7).map(|_| strategy.rank(0, &rooms, 1)[0]).collect();
        let row = picks.windows(3).filter(|w| w.iter().all(|p| *p == 0)).count();
        assert_eq!(row, 0, "{picks:?}");
        assert_eq!(firsts(&strategy, &rooms, 700), [500, 100, 100]);
    }
}
