//! Who is in the cluster, at one moment.

use crate::{NodeId, NodeInfo, NodeState, Role, rendezvous};

/// The cluster as one node sees it. Immutable: discovery publishes a new one at each change.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    revision: u64,
    /// Sorted by role and id, so that every node lists them alike.
    nodes: Vec<NodeInfo>,
}

impl Picture {
    /// A picture of these nodes. `revision` grows with every change of the picture.
    pub fn new(revision: u64, mut nodes: Vec<NodeInfo>) -> Self {
        nodes.sort_by_key(|n| (n.role, n.id));
        Self { revision, nodes }
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All nodes, in whatever state.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// The nodes of a role, in whatever state, by id.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &NodeInfo> + Clone {
        self.nodes.iter().filter(move |n| n.role == role)
    }

    /// The nodes of a role that serve: ready ones, and draining ones, which still do what they have.
    pub fn serving(&self, role: Role) -> impl Iterator<Item = &NodeInfo> + Clone {
        self.of(role).filter(|n| matches!(n.state, NodeState::Ready | NodeState::Draining))
    }

    /// One node.
    pub fn node(&self, role: Role, id: NodeId) -> Option<&NodeInfo> {
        self.of(role).find(|n| n.id == id)
    }

    /// The node of `role` that owns a key, by rendezvous hashing over every *member* of the role, also those that
    /// are down just now: ownership must not wander because a node is slow to answer.
    pub fn owner(&self, role: Role, key: u64) -> Option<&NodeInfo> {
        self.of(role).max_by_key(|n| rendezvous::score(key, n.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    fn node(role: Role, id: u32, state: NodeState) -> NodeInfo {
        NodeInfo { incarnation: Incarnation(1), state, ..NodeInfo::new(role, NodeId(id)) }
    }

    #[test]
    fn lists_by_role_and_state() {
        let p = Picture::new(
            1,
            vec![
                node(Role::Saver, 2, NodeState::Ready),
                node(Role::Saver, 1, NodeState::Down),
                node(Role::Room, 3, NodeState::Draining),
            ],
        );
        assert_eq!(p.of(Role::Saver).map(|n| n.id.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(p.serving(Role::Saver).map(|n| n.id.0).collect::<Vec<_>>(), [2]);
        assert!(p.node(Role::Room, NodeId(3)).is_some());
        assert!(p.owner(Role::Center, 7).is_none());
    }

    /// Ownership that followed "down" would hand an inbox to a saver that does not have its numbers.
    #[test]
    fn ownership_does_not_follow_state() {
        let up = Picture::new(1, (1..=3).map(|i| node(Role::Saver, i, NodeState::Ready)).collect());
        let down = Picture::new(2, (1..=3).map(|i| node(Role::Saver, i, NodeState::Down)).collect());
        for key in 0..1000 {
            assert_eq!(up.owner(Role::Saver, key).map(|n| n.id), down.owner(Role::Saver, key).map(|n| n.id));
        }
    }
}
