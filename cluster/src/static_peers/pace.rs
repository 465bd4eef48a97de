//! How long a node lets another wait until it tells how it is.
//!
//! Everyone asks everyone, so the questions of a cluster grow with the square of its size, and each wakes two processes: asked
//! each second, sixty nodes kept a processor busy with nothing else, and fourteen a twentieth of one. So a peer that serves
//! is asked to answer when it has news. A process that dies breaks the connection on which its answer was to come, and who
//! has not answered is asked each second: that is how a death becomes known within seconds. How long an answer may take when
//! there is no news decides only when one is missed that hangs, or whose machine is gone.

use std::time::Duration;

use crate::Role;

/// Distance of two questions to one peer, whatever it answers.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// Those on whom something depends wait so long. One that hangs is taken as down in this time and three times that of a poll.
const NEEDED: Duration = Duration::from_secs(5);
/// Those of whom nothing is needed but that they are listed.
const BYSTANDER: Duration = Duration::from_secs(30);

/// How long a node of the role `peer` that has no news lets one of the role `me` wait.
pub(super) fn wait(me: Role, peer: Role) -> Duration {
    let bystander = match (me, peer) {
        (Role::Room | Role::Saver | Role::Coordinator, Role::Room) => true,
        (_, Role::Dispatcher) => me != Role::Dispatcher,
        _ => false,
    };
    if bystander { BYSTANDER } else { NEEDED }
}

/// Whether it is news how full the peer is: where devices are sent by it.
pub(super) fn by_load(me: Role, peer: Role) -> bool {
    (me, peer) == (Role::Dispatcher, Role::Room)
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
        let longest = |me, peer| if by_load(me, peer) { SHORTEST } else { wait(me, peer) };
        let asks = |me: Role| nodes.iter().map(move |peer| 1.0 / longest(me, *peer).as_secs_f64());
        let a_second: f64 = nodes.iter().copied().flat_map(asks).sum();
        assert!(a_second < 500.0, "{a_second}");
    }

    #[test]
    fn who_is_needed_is_asked_more_often() {
        assert_eq!(wait(Role::Register, Role::Room), NEEDED);
        assert_eq!(wait(Role::Room, Role::Room), BYSTANDER);
        assert!(by_load(Role::Dispatcher, Role::Room) && !by_load(Role::Center, Role::Room));
    }
}
