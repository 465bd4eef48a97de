//! Which center does what in a broadcast job: rendezvous hashing over those that are ready. Two centers may differ for a moment,
//! while the picture changes; what they do then is compared and set, or may be done twice.

use std::collections::BTreeMap;

use cluster::{NodeId, NodeState, Picture, Role, rendezvous};

/// The center that releases a job. Not one that is down or drains: unlike what a saver numbers, a job can go on anywhere.
pub(crate) fn runner(picture: &Picture, me: NodeId, job: u64) -> NodeId {
    center(picture, me, job)
}

/// The rooms by the center that tells them of a job's slices and follows their progress.
pub(crate) fn parts(
    picture: &Picture,
    me: NodeId,
    job: u64,
    rooms: impl IntoIterator<Item = NodeId>,
) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut parts = BTreeMap::<_, Vec<_>>::new();
    for room in rooms {
        // An odd number spreads the rooms over all 64 bits, so that the parts of a job are owned apart from it.
        let key = job.wrapping_add(u64::from(room.0 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        parts.entry(center(picture, me, key)).or_default().push(room);
    }
    parts
}

/// The rooms that may be up. One that is only listed and was never heard of is not waited for.
pub(crate) fn rooms(picture: &Picture) -> Vec<NodeId> {
    let up = |state, life| state != NodeState::Down && (state != NodeState::Starting || life > 0);
    picture.of(Role::Room).filter(|room| up(room.state, room.life())).map(|room| room.id).collect()
}

fn center(picture: &Picture, me: NodeId, key: u64) -> NodeId {
    let ready = picture.of(Role::Center).filter(|center| center.state == NodeState::Ready);
    // A center that is alone, and does not see itself yet, is asked all the same.
    ready.map(|center| center.id).max_by_key(|id| rendezvous::score(key, *id)).unwrap_or(me)
}

#[cfg(test)]
mod tests {
    use cluster::NodeInfo;

    use super::*;

    fn picture(centers: &[(u32, NodeState)]) -> Picture {
        let of = |(id, state): &(u32, NodeState)| NodeInfo {
            state: *state,
            ..NodeInfo::new(Role::Center, NodeId(*id))
        };
        Picture::new(1, centers.iter().map(of).collect())
    }

    #[test]
    fn work_is_spread_over_the_ready_and_moves_only_from_who_leaves() {
        let all = picture(&[(1, NodeState::Ready), (2, NodeState::Ready), (3, NodeState::Ready)]);
        let less = picture(&[(1, NodeState::Ready), (2, NodeState::Down), (3, NodeState::Ready)]);
        let rooms: Vec<_> = (10..310).map(NodeId).collect();
        let (before, after) = (parts(&all, NodeId(1), 7, rooms.clone()), parts(&less, NodeId(1), 7, rooms));
        assert!(before.values().all(|rooms| (70..130).contains(&rooms.len())), "{before:?}");
        assert!(before[&NodeId(1)].iter().all(|room| after[&NodeId(1)].contains(room)));
        assert_eq!(after.values().map(Vec::len).sum::<usize>(), 300);
        for job in 0..100 {
            let owner = runner(&all, NodeId(1), job << 22);
            assert!(owner == NodeId(2) || owner == runner(&less, NodeId(1), job << 22));
        }
        assert_eq!(runner(&picture(&[(2, NodeState::Draining)]), NodeId(9), 1), NodeId(9));
    }
}
