//! Who has how many connections: one entry for each address, shared by the threads of a room.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hashbrown::HashTable;
use slab::Slab;

use super::{Reason, rate::Rate};

/// Parts with a lock each. Threads meet only at accept, at the end of a handshake and at close, for some tens of
/// nanoseconds; with as many parts as a room may have threads they hardly ever wait for each other.
const SHARDS: usize = 64;
const SHARD_BITS: u32 = 6;
/// Places that one part may have; a place and its part fit into 30 bits.
const PLACES: usize = 1 << 24;
/// Entries that are looked at for each new one, to find those that nobody needs any more: more than one, so that they are
/// found faster than they are made.
const LOOKED_AT: usize = 4;
/// Entries that a tick looks at.
const SWEPT: usize = 4_096;

/// What one address may have. `None` = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PerAddress {
    pub(super) connections: Option<u32>,
    pub(super) handshakes: Option<u32>,
    pub(super) rate: Option<Rate>,
}

impl PerAddress {
    /// Whether nothing need be counted.
    pub(super) fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Place of an address in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// Largest number of a place.
    pub(super) const MAX: u32 = (PLACES as u32) << SHARD_BITS;

    fn new(shard: usize, at: usize) -> Self {
        Self((at as u32) << SHARD_BITS | shard as u32)
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    fn at(self) -> usize {
        (self.0 >> SHARD_BITS) as usize
    }
}

/// An address: 24 bytes.
#[derive(Debug)]
struct Entry {
    key: u64,
    connections: u32,
    /// Of those, handshakes that are not through.
    handshakes: u32,
    /// When its bucket of handshakes is full again.
    full_ns: u64,
}

impl Entry {
    /// Whether a new entry would be the same.
    fn is_spare(&self, now_ns: u64) -> bool {
        self.connections == 0 && self.full_ns <= now_ns
    }
}

#[derive(Debug, Default)]
struct Shard {
    places: HashTable<u32>,
    entries: Slab<Entry>,
    /// One past the highest place that was used.
    end: usize,
    /// Where the search for spare entries goes on.
    hand: usize,
}

/// All addresses that have connections, or had handshakes a moment ago.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Random, so that nobody can choose addresses that meet in one place.
    state: RandomState,
    /// Entries that one part may have.
    bound: usize,
    swept: AtomicUsize,
}

impl Table {
    /// A table for so many addresses, or some more: no part refuses before it has a fair share of them and a quarter.
    pub(super) fn new(addresses: usize) -> Self {
        let bound = Self::bound(addresses) / SHARDS;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            state: RandomState::new(),
            bound,
            swept: AtomicUsize::new(0),
        }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection that begins its handshake, if its address may have one more; nothing is counted otherwise.
    pub(super) fn enter(&self, address: IpAddr, may: &PerAddress, now_ns: u64) -> Result<Place, Reason> {
        let key = key(address);
        let hash = self.state.hash_one(key);
        // The low bits choose the place within a part.
        let number = (hash >> 32) as usize % SHARDS;
        let mut shard = self.lock(number);
        let found = shard.find(key, hash);
        let (connections, handshakes, full_ns) = found.map_or((0, 0, 0), |at| {
            let entry = &shard.entries[at];
            (entry.connections, entry.handshakes, entry.full_ns)
        });
        if may.connections.is_some_and(|most| connections >= most) {
            return Err(Reason::IpConnections);
        }
        if may.handshakes.is_some_and(|most| handshakes >= most) {
            return Err(Reason::IpHandshakes);
        }
        let full_ns = match may.rate {
            None => full_ns,
            Some(rate) => rate.take(full_ns, now_ns).ok_or(Reason::IpRate)?,
        };
        let at = match found {
            Some(at) => at,
            None => shard.insert(key, hash, self.bound, now_ns, &self.state).ok_or(Reason::Addresses)?,
        };
        let entry = &mut shard.entries[at];
        entry.connections += 1;
        entry.handshakes += 1;
        entry.full_ns = full_ns;
        Ok(Place::new(number, at))
    }

    /// A handshake is through, well or not.
    pub(super) fn greeted(&self, place: Place) {
        if let Some(entry) = self.lock(place.shard()).entries.get_mut(place.at()) {
            entry.handshakes = entry.handshakes.saturating_sub(1);
        }
    }

    /// A connection has ended whose handshake is through.
    pub(super) fn leave(&self, place: Place, now_ns: u64) {
        let mut shard = self.lock(place.shard());
        let Some(entry) = shard.entries.get_mut(place.at()) else { return };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.is_spare(now_ns) {
            shard.remove(place.at(), &self.state);
        }
    }

    /// A connection was not taken after all: its token goes back too.
    pub(super) fn take_back(&self, place: Place, may: &PerAddress, now_ns: u64) {
        if let Some(rate) = may.rate
            && let Some(entry) = self.lock(place.shard()).entries.get_mut(place.at())
        {
            entry.full_ns = rate.give_back(entry.full_ns);
        }
        self.greeted(place);
        self.leave(place, now_ns);
    }

    /// Forgets some of the addresses that have nothing any more. For a thread's tick.
    pub(super) fn sweep(&self, now_ns: u64) {
        let shard = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.lock(shard).sweep(SWEPT, now_ns, &self.state);
    }

    /// Addresses now.
    pub(super) fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).entries.len()).sum()
    }

    /// Entries that a table for so many addresses may have at most.
    pub(super) fn bound(addresses: usize) -> usize {
        (addresses.div_ceil(SHARDS) * 5 / 4 + 256).min(PLACES) * SHARDS
    }
}

impl Shard {
    fn find(&self, key: u64, hash: u64) -> Option<usize> {
        let at = *self.places.find(hash, |at| self.entries[*at as usize].key == key)?;
        Some(at as usize)
    }

    /// A new entry; `None` if there is no place even after looking for spare ones.
    fn insert(
        &mut self,
        key: u64,
        hash: u64,
        bound: usize,
        now_ns: u64,
        state: &RandomState,
    ) -> Option<usize> {
        self.sweep(LOOKED_AT, now_ns, state);
        if self.entries.len() >= bound {
            self.forget_one(state)?;
        }
        if self.entries.len() == self.entries.capacity() {
            // By a quarter and not by twice, so that the bound on memory is near to what is used.
            self.entries.reserve_exact(self.entries.len() / 4 + 16);
        }
        let at = self.entries.insert(Entry { key, connections: 0, handshakes: 0, full_ns: 0 });
        self.end = self.end.max(at + 1);
        let entries = &self.entries;
        self.places.insert_unique(hash, at as u32, |at| state.hash_one(entries[*at as usize].key));
        Some(at)
    }

    fn remove(&mut self, at: usize, state: &RandomState) {
        let Some(entry) = self.entries.try_remove(at) else { return };
        let hash = state.hash_one(entry.key);
        if let Ok(found) = self.places.find_entry(hash, |place| *place as usize == at) {
            found.remove();
        }
        if self.entries.is_empty() {
            // After a flood of addresses its memory goes back.
            *self = Self::default();
        }
    }

    /// Looks at `count` places and forgets the spare ones.
    fn sweep(&mut self, count: usize, now_ns: u64, state: &RandomState) {
        for _ in 0..count.min(self.end) {
            let at = self.next();
            if self.entries.get(at).is_some_and(|entry| entry.is_spare(now_ns)) {
                self.remove(at, state);
            }
        }
    }

    /// At the bound: an address without connections loses its bucket before its time, which lets it try again sooner;
    /// refusing somebody new would be worse. Looks at a few only.
    fn forget_one(&mut self, state: &RandomState) -> Option<()> {
        for _ in 0..4 * LOOKED_AT {
            let at = self.next();
            if self.entries.get(at).is_some_and(|entry| entry.connections == 0) {
                self.remove(at, state);
                return Some(());
            }
        }
        None
    }

    fn next(&mut self) -> usize {
        self.hand = if self.hand + 1 < self.end { self.hand + 1 } else { 0 };
        self.hand
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is what one customer gets. IPv4 lies
/// in `::/32`, where no IPv6 host but the loopback is.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests;
