//! The same user to the same room, in proportion to the headroom.

use cluster::rendezvous;

use super::{Strategy, best};
use crate::rooms::Room;

/// Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): a room's score for a user is -w / ln h with h
/// the pair's hash in (0, 1). A room gets users in proportion to its weight, and when a weight changes only as
/// many users move as have to.
#[derive(Debug)]
pub(super) struct ConsistentHash;

impl Strategy for ConsistentHash {
    fn rank(&self, key: u64, rooms: &[Room], count: usize) -> Vec<usize> {
        let score = |room: &Room| {
            // 53 bits fill a float; half a unit keeps it off 0 and 1, where the logarithm ends.
            let hash = ((rendezvous::score(key, room.id) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -room.weight / hash.ln()
        };
        let scores: Vec<f64> = rooms.iter().map(score).collect();
        best(&scores, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::tests::{firsts, rooms};

    #[test]
    fn shares_follow_the_weights() {
        let counts = firsts(&ConsistentHash, &rooms(&[100.0, 200.0, 700.0]), 20_000);
        // 2,000, 4,000 and 14,000 expected; 200 is four standard deviations or more.
        for (count, expected) in counts.iter().zip([2_000_u64, 4_000, 14_000]) {
            assert!(count.abs_diff(expected) < 260, "{counts:?}");
        }
    }

    #[test]
    fn a_lost_room_moves_only_its_own_users() {
        let all = rooms(&[5.0, 5.0, 5.0, 5.0]);
        let less: Vec<_> = all.iter().filter(|room| room.id.0 != 2).cloned().collect();
        for key in 0..5_000_u64 {
            let key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let before = all[ConsistentHash.rank(key, &all, 1)[0]].id;
            let after = less[ConsistentHash.rank(key, &less, 1)[0]].id;
            assert!(before == after || before.0 == 2);
        }
    }

    #[test]
    fn a_smaller_weight_moves_only_users_of_that_room() {
        let before = rooms(&[16.0, 16.0, 16.0]);
        let after = rooms(&[16.0, 12.0, 16.0]);
        let moved = (0..10_000_u64).filter(|key| {
            let key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (was, is) = (ConsistentHash.rank(key, &before, 1)[0], ConsistentHash.rank(key, &after, 1)[0]);
            assert!(was == is || was == 1);
            was != is
        });
        // The room's share falls from 1/3 to 3/11, so 6 % of the users move.
        assert!((450..770).contains(&moved.count()));
    }
}
