//! Where things lie in etcd.

use crate::{NodeId, Role};

use super::Target;

/// The keys of one cluster, below `/longwire/<cluster>/`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    root: String,
}

impl Keys {
    pub(crate) fn new(cluster: &str) -> Self {
        Self { root: format!("/longwire/{cluster}/") }
    }

    /// A word that was drawn when the first node of the cluster entered: another one, or none, means that etcd has
    /// lost what it had.
    pub(crate) fn birth(&self) -> String {
        format!("{}birth", self.root)
    }

    /// Number of the last registration.
    pub(crate) fn registrations(&self) -> String {
        format!("{}registrations", self.root)
    }

    /// Where the search for a free node id begins.
    pub(crate) fn next_id(&self) -> String {
        format!("{}ids-next", self.root)
    }

    pub(crate) fn ids(&self) -> String {
        format!("{}ids/", self.root)
    }

    pub(crate) fn id(&self, id: NodeId) -> String {
        format!("{}ids/{id}", self.root)
    }

    pub(crate) fn nodes(&self) -> String {
        format!("{}nodes/", self.root)
    }

    pub(crate) fn node(&self, role: Role, id: NodeId) -> String {
        format!("{}nodes/{role}/{id}", self.root)
    }

    pub(crate) fn configs(&self, role: Role) -> String {
        format!("{}config/{role}/", self.root)
    }

    pub(crate) fn config(&self, role: Role, target: Target) -> String {
        format!("{}config/{role}/{target}", self.root)
    }

    pub(crate) fn history(&self, role: Role, target: Target) -> String {
        format!("{}history/{role}/{target}/", self.root)
    }

    pub(crate) fn history_entry(&self, role: Role, target: Target, number: u64) -> String {
        format!("{}{number:010}", self.history(role, target))
    }

    /// Who a key below `nodes/` is about.
    pub(crate) fn node_of(&self, key: &str) -> Option<(Role, NodeId)> {
        let (role, id) = key.strip_prefix(&self.nodes())?.split_once('/')?;
        Some((role.parse().ok()?, NodeId(id.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_what_operators_look_for() {
        let keys = Keys::new("default");
        assert_eq!(keys.id(NodeId(7)), "/longwire/default/ids/7");
        assert_eq!(keys.node(Role::Room, NodeId(7)), "/longwire/default/nodes/room/7");
        assert_eq!(keys.config(Role::Saver, Target::Default), "/longwire/default/config/saver/default");
        assert_eq!(keys.config(Role::Saver, Target::Node(NodeId(3))), "/longwire/default/config/saver/3");
        assert_eq!(
            keys.history_entry(Role::Saver, Target::Default, 12),
            "/longwire/default/history/saver/default/0000000012"
        );
        assert_eq!(keys.node_of("/longwire/default/nodes/room/7"), Some((Role::Room, NodeId(7))));
        assert_eq!(keys.node_of("/longwire/default/nodes/rooom/7"), None);
    }
}
