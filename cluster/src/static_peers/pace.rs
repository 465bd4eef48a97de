//! How often a node asks another how it is.
//!
//! Everyone asks everyone, so the questions of a cluster grow with the square of its size: were they all asked each second,
//! sixty nodes would keep a processor busy with nothing else. So in a large list each asks less often, and least often those
//! of whom it needs little. Who has not answered is asked each second again: that is how a death stays known within seconds.

use std::time::Duration;

use crate::Role;

/// How often each peer is asked in a short list, and in any list one that did not answer last time, or never did.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// Up to this many nodes all are asked each second.
const SHORT_LIST: usize = 8;
/// However long the list is, those on whom something depends are asked so often.
const LONGEST: Duration = Duration::from_secs(5);
/// By how much longer those are left alone of whom nothing is needed but that they are listed.
const BYSTANDERS: u32 = 6;

/// How long a node of the role `me` leaves one of the role `peer` alone after an answer, in a list of so many nodes.
pub(super) fn pause(me: Role, peer: Role, nodes: usize) -> Duration {
    if nodes <= SHORT_LIST || (me, peer) == (Role::Dispatcher, Role::Room) {
        // Where devices are sent, a second decides whether they come to a room that drains.
        return SHORTEST;
    }
    let needed = SHORTEST.mul_f64(nodes as f64 / SHORT_LIST as f64).min(LONGEST);
    let bystander = match (me, peer) {
        (Role::Room | Role::Saver | Role::Coordinator, Role::Room) => true,
        (_, Role::Dispatcher) => me != Role::Dispatcher,
        _ => false,
    };
    if bystander { needed * BYSTANDERS } else { needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty-two nodes asked each other 3,844 times a second, which took more than a processor.
    #[test]
    fn the_questions_of_a_large_cluster_cost_little() {
        let mut nodes = vec![Role::Dispatcher, Role::Center, Role::Center, Role::Coordinator];
        nodes.extend([Role::Saver, Role::Saver, Role::Register, Role::Register]);
        nodes.extend([Role::Room; 54]);
        let asks = |me: Role| nodes.iter().map(move |peer| 1.0 / pause(me, *peer, 62).as_secs_f64());
        let a_second: f64 = nodes.iter().copied().flat_map(asks).sum();
        assert!(a_second < 500.0, "{a_second}");
    }

    #[test]
    fn a_small_cluster_knows_all_within_a_second() {
        for me in Role::ALL {
            assert!(Role::ALL.iter().all(|peer| pause(me, *peer, SHORT_LIST) == SHORTEST));
        }
        assert_eq!(pause(Role::Dispatcher, Role::Room, 1000), SHORTEST);
        assert_eq!(pause(Role::Register, Role::Room, 1000), LONGEST);
    }
}
