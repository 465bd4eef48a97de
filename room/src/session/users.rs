//! (app, uid) → bindings of this thread.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use wire::id::AppId;

use super::binding::Binding;

/// Holds slots only, 4 bytes and a control byte each: the key is in the binding. A user may be there more than once,
/// for as long as the register has not told which binding is the older one.
#[derive(Debug)]
pub(crate) struct Users {
    slots: HashTable<u32>,
    /// Seeded at random, because devices choose uids within what their app allows.
    state: RandomState,
}

fn hash(state: &RandomState, app: AppId, uid: &str) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u32(app.0);
    hasher.write(uid.as_bytes());
    hasher.finish()
}

impl Users {
    pub(crate) fn new() -> Self {
        Self { slots: HashTable::new(), state: RandomState::default() }
    }

    /// The binding must carry its final app and uid.
    pub(crate) fn insert(&mut self, slot: u32, bindings: &Slab<Binding>) {
        let of = |slot: &u32| {
            bindings.get(*slot as usize).map_or(0, |binding| hash(&self.state, binding.app, &binding.uid))
        };
        self.slots.insert_unique(of(&slot), slot, of);
    }

    /// Removes this binding and no other of the same user.
    pub(crate) fn remove(&mut self, slot: u32, app: AppId, uid: &str) {
        let hash = hash(&self.state, app, uid);
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    /// All bindings of a user.
    pub(crate) fn find<'a>(
        &'a self,
        app: AppId,
        uid: &'a str,
        bindings: &'a Slab<Binding>,
    ) -> impl Iterator<Item = (u32, &'a Binding)> {
        self.slots.iter_hash(hash(&self.state, app, uid)).filter_map(move |slot| {
            let binding = bindings.get(*slot as usize)?;
            (binding.app == app && binding.uid.as_str() == uid).then_some((*slot, binding))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.allocation_size()
    }
}
