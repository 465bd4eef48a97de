//! (app, uid) → bindings of this thread.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use wire::id::AppId;

use super::binding::Binding;

/// Tables that the users are spread over. One table would be filled anew whenever it grows, a tenth of a second with a million
/// users; of 64 each takes a millisecond or two.
const SHARDS: usize = 64;

/// Holds slots only, 4 bytes and a control byte each: the key is in the binding. A user may be there more than once,
/// for as long as the register has not told which binding is the older one.
#[derive(Debug)]
pub(crate) struct Users {
    shards: Box<[HashTable<u32>]>,
    len: usize,
    /// Seeded at random, because devices choose uids within what their app allows.
    state: RandomState,
}

fn hash(state: &RandomState, app: AppId, uid: &str) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u32(app.0);
    hasher.write(uid.as_bytes());
    hasher.finish()
}

/// The tables use the lowest and the highest bits themselves.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl Users {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { shards, len: 0, state: RandomState::default() }
    }

    /// The binding must carry its final app and uid.
    pub(crate) fn insert(&mut self, slot: u32, bindings: &Slab<Binding>) {
        let of = |slot: &u32| {
            bindings.get(*slot as usize).map_or(0, |binding| hash(&self.state, binding.app, &binding.uid))
        };
        let hash = of(&slot);
        self.shards[shard(hash)].insert_unique(hash, slot, of);
        self.len += 1;
    }

    /// Removes this binding and no other of the same user.
    pub(crate) fn remove(&mut self, slot: u32, app: AppId, uid: &str) {
        let hash = hash(&self.state, app, uid);
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// All bindings of a user.
    pub(crate) fn find<'a>(
        &'a self,
        app: AppId,
        uid: &'a str,
        bindings: &'a Slab<Binding>,
    ) -> impl Iterator<Item = (u32, &'a Binding)> {
        let hash = hash(&self.state, app, uid);
        self.shards[shard(hash)].iter_hash(hash).filter_map(move |slot| {
            let binding = bindings.get(*slot as usize)?;
            (binding.app == app && binding.uid.as_str() == uid).then_some((*slot, binding))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> usize {
        let tables = self.shards.iter().map(HashTable::allocation_size);
        tables.sum::<usize>() + size_of_val(&*self.shards)
    }
}
