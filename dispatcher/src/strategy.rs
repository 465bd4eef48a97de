//! How rooms are chosen: one trait, chosen by configuration.

use std::fmt;

use crate::{config::StrategyKind, rooms::Room};

mod consistent_hash;
mod random;
mod round_robin;
mod smooth;

/// Ranks rooms for a user.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// Indexes of the `count` best of `rooms`, the best first; fewer only if there are fewer rooms. `key` is the
    /// hash of the user.
    fn rank(&self, key: u64, rooms: &[Room], count: usize) -> Vec<usize>;
}

/// The strategy of that name.
#[must_use]
pub fn strategy(kind: StrategyKind) -> Box<dyn Strategy> {
    match kind {
        StrategyKind::Random => Box::new(random::Random),
        StrategyKind::RoundRobin => Box::new(round_robin::RoundRobin::default()),
        StrategyKind::SmoothWeightedRoundRobin => Box::new(smooth::SmoothWeighted::default()),
        StrategyKind::ConsistentHash => Box::new(consistent_hash::ConsistentHash),
    }
}

/// The `count` indexes with the greatest scores, the greatest first.
fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..scores.len()).collect();
    let greater = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]);
    if count < ranked.len() && count > 0 {
        ranked.select_nth_unstable_by(count - 1, greater);
    }
    ranked.truncate(count);
    ranked.sort_unstable_by(greater);
    ranked
}

#[cfg(test)]
mod tests {
    use cluster::NodeId;
    use proptest::prelude::*;

    use super::{Strategy, *};

    pub(super) fn rooms(weights: &[f64]) -> Vec<Room> {
        let room = |(n, weight): (usize, &f64)| Room {
            id: NodeId(n as u32 + 1),
            weight: *weight,
            endpoints: vec![],
        };
        weights.iter().enumerate().map(room).collect()
    }

    /// How often each room came first for `n` users.
    pub(super) fn firsts(strategy: &dyn Strategy, rooms: &[Room], n: u64) -> Vec<u64> {
        let mut counts = vec![0; rooms.len()];
        for key in 0..n {
            counts[strategy.rank(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), rooms, 1)[0]] += 1;
        }
        counts
    }

    const ALL: [StrategyKind; 4] = [
        StrategyKind::Random,
        StrategyKind::RoundRobin,
        StrategyKind::SmoothWeightedRoundRobin,
        StrategyKind::ConsistentHash,
    ];

    proptest! {
        #[test]
        fn all_answer_different_rooms_and_as_many_as_asked(
            weights in prop::collection::vec(1.0..1e6_f64, 0..20), count in 0..25_usize, keys: [u64; 4],
        ) {
            let rooms = rooms(&weights);
            for kind in ALL {
                let strategy = strategy(kind);
                for key in keys {
                    let mut ranked = strategy.rank(key, &rooms, count);
                    prop_assert_eq!(ranked.len(), count.min(rooms.len()));
                    ranked.sort_unstable();
                    ranked.dedup();
                    prop_assert_eq!(ranked.len(), count.min(rooms.len()));
                    prop_assert!(ranked.iter().all(|at| *at < rooms.len()));
                }
            }
        }
    }
}
