//! Who is in the cluster, by what etcd has told: the part without etcd.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{NodeId, NodeInfo, Picture, Role};

/// The nodes, and which of them are kept although etcd does not have them just now.
///
/// A node whose registration is gone is gone, except for a while after etcd was away for longer than a lease, or came
/// back without its data: then all nodes have to register again, and who has not done so yet is not dead.
#[derive(Debug)]
pub(crate) struct Membership {
    nodes: BTreeMap<(Role, NodeId), Member>,
    revision: u64,
    lease: Duration,
    /// Until then an absence is not believed.
    lenient_until: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    info: NodeInfo,
    /// It is not registered, and leaves the picture then.
    leaves: Option<Instant>,
}

impl Membership {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { nodes: BTreeMap::new(), revision: 0, lease, lenient_until: None }
    }

    /// Long enough for a node's next attempt to reach etcd, to find its lease gone, and to register again.
    fn grace(&self) -> Duration {
        2 * self.lease + Duration::from_secs(3)
    }

    /// etcd is followed again.
    pub(crate) fn back(&mut self, now: Instant, away: Duration, lost: bool) {
        // The very first list is simply the truth.
        if self.revision > 0 && (lost || away >= self.lease) {
            self.lenient_until = Some(now + self.grace());
        }
    }

    /// A node is registered.
    pub(crate) fn put(&mut self, info: NodeInfo) {
        self.nodes.insert((info.role, info.id), Member { info, leaves: None });
    }

    /// A node's registration is gone.
    pub(crate) fn remove(&mut self, now: Instant, role: Role, id: NodeId) {
        match self.lenient_until.filter(|until| *until > now) {
            None => {
                self.nodes.remove(&(role, id));
            }
            Some(until) => {
                if let Some(member) = self.nodes.get_mut(&(role, id)) {
                    member.leaves.get_or_insert(until);
                }
            }
        }
    }

    /// These are all that are registered.
    pub(crate) fn list(&mut self, now: Instant, all: Vec<NodeInfo>) {
        let listed: Vec<_> = all.iter().map(|info| (info.role, info.id)).collect();
        let missing: Vec<_> = self.nodes.keys().filter(|key| !listed.contains(key)).copied().collect();
        for (role, id) in missing {
            self.remove(now, role, id);
        }
        for info in all {
            self.put(info);
        }
    }

    /// Whether somebody's grace is over.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.nodes.values().any(|member| member.leaves.is_some_and(|leaves| leaves <= now))
    }

    /// Lets go of those whose grace is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.nodes.retain(|_, member| member.leaves.is_none_or(|leaves| leaves > now));
    }

    /// The picture, if it differs from the one before.
    pub(crate) fn picture(&mut self, before: &Picture) -> Option<Picture> {
        let nodes: Vec<_> = self.nodes.values().map(|member| member.info.clone()).collect();
        if self.revision > 0 && nodes == before.nodes() {
            return None;
        }
        self.revision += 1;
        Some(Picture::new(self.revision, nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeState;

    const LEASE: Duration = Duration::from_secs(5);

    fn node(id: u32) -> NodeInfo {
        NodeInfo { state: NodeState::Ready, ..NodeInfo::new(Role::Room, NodeId(id)) }
    }

    fn ids(membership: &mut Membership) -> Vec<u32> {
        let picture = membership.picture(&Picture::new(0, vec![NodeInfo::new(Role::Center, NodeId(99))]));
        picture.unwrap().nodes().iter().map(|n| n.id.0).collect()
    }

    fn three(now: Instant) -> Membership {
        let mut membership = Membership::new(LEASE);
        membership.back(now, Duration::ZERO, false);
        membership.list(now, vec![node(1), node(2), node(3)]);
        assert_eq!(ids(&mut membership), [1, 2, 3]);
        membership
    }

    #[test]
    fn who_leaves_is_gone_at_once() {
        let now = Instant::now();
        let mut membership = three(now);
        membership.remove(now, Role::Room, NodeId(2));
        membership.remove(now, Role::Saver, NodeId(1));
        assert_eq!(ids(&mut membership), [1, 3]);
        // A list after a compaction: etcd was there all the time, so it is right.
        membership.back(now, Duration::from_millis(100), false);
        membership.list(now, vec![node(3), node(4)]);
        assert_eq!(ids(&mut membership), [3, 4]);
    }

    /// An etcd that lost its data names nobody until the nodes have registered again; a picture that followed it would
    /// have sent every user to nowhere.
    #[test]
    fn after_a_loss_nobody_vanishes_before_the_grace_is_over() {
        let start = Instant::now();
        let mut membership = three(start);
        membership.back(start, Duration::from_millis(500), true);
        membership.list(start, vec![]);
        assert_eq!(ids(&mut membership), [1, 2, 3]);
        membership.put(node(2));
        assert!(!membership.is_due(start + Duration::from_secs(12)));
        membership.expire(start + Duration::from_secs(12));
        assert_eq!(ids(&mut membership), [1, 2, 3]);
        assert!(membership.is_due(start + Duration::from_secs(13)));
        membership.expire(start + Duration::from_secs(13));
        assert_eq!(ids(&mut membership), [2]);
        // Later absences are believed again.
        membership.remove(start + Duration::from_secs(14), Role::Room, NodeId(2));
        assert!(ids(&mut membership).is_empty());
    }

    #[test]
    fn after_a_long_break_leases_that_end_are_not_believed_at_once() {
        let start = Instant::now();
        let mut membership = three(start);
        membership.back(start, LEASE, false);
        membership.remove(start + Duration::from_secs(1), Role::Room, NodeId(1));
        assert_eq!(ids(&mut membership), [1, 2, 3]);
        membership.put(node(1));
        membership.expire(start + Duration::from_secs(20));
        assert_eq!(ids(&mut membership), [1, 2, 3]);
    }

    #[test]
    fn a_picture_is_made_only_of_changes() {
        let now = Instant::now();
        let mut membership = three(now);
        let before = Picture::new(membership.revision, vec![node(1), node(2), node(3)]);
        assert!(membership.picture(&before).is_none());
        membership.put(NodeInfo { state: NodeState::Draining, ..node(1) });
        assert_eq!(membership.picture(&before).unwrap().revision(), before.revision() + 1);
    }
}
