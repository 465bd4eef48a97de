//! Which number a node gets: the choice, without etcd.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{MAX_NODE_ID, NodeId, Role};

/// Which number a node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one and no other: it is configured.
    Exactly(NodeId),
    /// This one if it can be had, else a free one.
    Rather(NodeId),
    /// A free one.
    Any,
}

/// Who has a number; the value of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its service.
    pub role: Role,
    /// A word that is kept in its data folder: who has it is the same node, in this life or a later one.
    pub owner: String,
    /// A word of this life.
    pub life: String,
    /// Name of its host.
    pub host: String,
    /// Its process there.
    pub process: u32,
}

/// A number that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) holder: Holder,
    pub(crate) revision: i64,
}

/// What came of the choice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Free(NodeId),
    /// Our own, from an earlier life; `revision` is that of the key.
    Own {
        id: NodeId,
        revision: i64,
    },
    /// Somebody else has it.
    Refused {
        id: NodeId,
        by: Holder,
    },
    /// There is none left.
    Exhausted,
}

/// Chooses. `next` is where the search for a free one begins, so that a freed one is not given away again soon: its
/// late owner may still be making message ids with it.
pub(crate) fn choose(wanted: Wanted, owner: &str, taken: &BTreeMap<NodeId, Taken>, next: u32) -> Choice {
    let (NodeId(first), only) = match wanted {
        Wanted::Exactly(id) => (id, true),
        Wanted::Rather(id) => (id, false),
        Wanted::Any => (NodeId(0), false),
    };
    if first > 0 {
        let id = NodeId(first);
        match taken.get(&id) {
            None => return Choice::Free(id),
            Some(t) if t.holder.owner == owner => return Choice::Own { id, revision: t.revision },
            Some(t) if only => return Choice::Refused { id, by: t.holder.clone() },
            Some(_) => {}
        }
    }
    let start = next.clamp(1, MAX_NODE_ID);
    let mut all = (start..=MAX_NODE_ID).chain(1..start).map(NodeId);
    all.find(|id| !taken.contains_key(id)).map_or(Choice::Exhausted, Choice::Free)
}

/// Where the next search begins after this number was given.
pub(crate) fn after(id: NodeId) -> u32 {
    if id.0 >= MAX_NODE_ID { 1 } else { id.0 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(all: &[(u32, &str)]) -> BTreeMap<NodeId, Taken> {
        let holder = |owner: &str| Holder {
            role: Role::Room,
            owner: owner.to_owned(),
            life: "1".to_owned(),
            host: "h".to_owned(),
            process: 1,
        };
        let taken = |(id, owner): &(u32, &str)| (NodeId(*id), Taken { holder: holder(owner), revision: 9 });
        all.iter().map(taken).collect()
    }

    #[test]
    fn a_freed_number_is_not_given_again_soon() {
        let mut next = 1;
        let mut given = Vec::new();
        for _ in 0..MAX_NODE_ID {
            // Each is free again as soon as it was given.
            let Choice::Free(id) = choose(Wanted::Any, "me", &taken(&[]), next) else { panic!() };
            next = after(id);
            given.push(id);
        }
        given.sort();
        given.dedup();
        assert_eq!(given.len(), MAX_NODE_ID as usize);
        assert_eq!(next, 1);
    }

    #[test]
    fn the_search_goes_round() {
        let all = taken(&[(MAX_NODE_ID, "a"), (1, "b")]);
        assert_eq!(choose(Wanted::Any, "me", &all, MAX_NODE_ID), Choice::Free(NodeId(2)));
        let all: Vec<_> = (1..=MAX_NODE_ID).map(|id| (id, "a")).collect();
        assert_eq!(choose(Wanted::Any, "me", &taken(&all), 7), Choice::Exhausted);
    }

    #[test]
    fn ones_own_is_taken_back_and_anothers_is_not() {
        let all = taken(&[(5, "me"), (6, "you")]);
        let own = Choice::Own { id: NodeId(5), revision: 9 };
        assert_eq!(choose(Wanted::Exactly(NodeId(5)), "me", &all, 1), own);
        assert_eq!(choose(Wanted::Rather(NodeId(5)), "me", &all, 1), own);
        assert_eq!(choose(Wanted::Rather(NodeId(6)), "me", &all, 6), Choice::Free(NodeId(7)));
        let refused = choose(Wanted::Exactly(NodeId(6)), "me", &all, 1);
        assert!(matches!(refused, Choice::Refused { id: NodeId(6), by } if by.owner == "you"));
    }
}
