//! The rules of binds, unbinds and fences, for a part of the users.

use std::time::Instant;

use hashbrown::{
    HashTable,
    hash_table::{Entry, OccupiedEntry},
};

use crate::{
    homes::{Entered, Fate, Homes, RoomLife},
    records::{RecordRef, Records, Session},
};

/// A session that a room asks for.
#[derive(Debug, Clone, Copy)]
pub struct Bind {
    /// Where the user is.
    pub life: RoomLife,
    /// The connection there.
    pub conn: u64,
    /// Since when, ms since 1970.
    pub since_ms: u64,
    /// The fence that the session had before this store knew it; 0 = it is new.
    pub above: u64,
}

/// A session that lost its place; its room is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced {
    /// Where it was.
    pub life: RoomLife,
    /// Only a binding with at most this fence is meant.
    pub fence: u64,
}

/// What a bind came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Greater than every fence that the user had.
    pub fence: u64,
    /// Who is to be kicked: the session before, or the one that asked if it was older after all.
    pub displaced: Option<Displaced>,
    /// The room started again: its earlier life ended here and is to be ended in the other shards.
    pub new_life: bool,
}

/// Where a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// The room.
    pub life: RoomLife,
    /// The connection there.
    pub conn: u64,
    /// The session's fence.
    pub fence: u64,
    /// Since when, ms since 1970.
    pub since_ms: u64,
}

/// The store has no more room. It is at hundreds of millions of sessions then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session store is at its bound")]
pub struct StoreFull;

#[derive(Debug)]
pub(crate) struct Shard {
    table: HashTable<RecordRef>,
    records: Records,
    homes: Homes,
    next_fence: u64,
}

/// The key of a session with its hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) hash: u64,
    pub(crate) app: u32,
    pub(crate) uid: &'a str,
}

impl Shard {
    /// An empty shard in the `life`-th life of the register.
    ///
    /// Fences count up from the life, within 32 bits: a shard that binds 1,000 users a second reaches the range
    /// of the next life after 49 days, and even then fences only repeat for a user who was bound in that range
    /// and never since.
    pub(crate) fn new(life: u64) -> Shard {
        Shard {
            table: HashTable::new(),
            records: Records::new(),
            homes: Homes::default(),
            next_fence: (life << 32) + 1,
        }
    }

    pub(crate) fn bind(
        &mut self,
        key: Key<'_>,
        bind: Bind,
        hasher: impl Fn((u32, &[u8])) -> u64,
    ) -> Result<Bound, StoreFull> {
        let (home, new_life) = match self.homes.enter(bind.life) {
            Entered::Home(home) => (home, false),
            Entered::NewLife(home) => (home, true),
            // Whoever asked is dead, and nobody waits for the answer. The session must not come to be.
            Entered::Stale => {
                return Ok(Bound { fence: self.draw(bind.above), displaced: None, new_life: false });
            }
            Entered::Full => return Err(StoreFull),
        };
        let fence = self.draw(bind.above);
        let session = Session { conn: bind.conn, fence, since_ms: bind.since_ms, home };
        let Shard { table, records, homes, .. } = self;
        let found = table.entry(
            key.hash,
            |at| records.key(*at) == (key.app, key.uid.as_bytes()),
            |at| hasher(records.key(*at)),
        );
        let displaced = match found {
            Entry::Vacant(place) => {
                let at = records.insert(key.app, key.uid, &session).ok_or(StoreFull)?;
                place.insert(at);
                homes.count_in(home);
                None
            }
            Entry::Occupied(entry) => {
                let at = *entry.get();
                let old = records.session(at);
                let old_life = homes.life(old.home);
                let same = old_life == bind.life && old.conn == bind.conn;
                let alive = homes.is_alive(old.home);
                if alive && !same && bind.above != 0 && bind.above < old.fence {
                    // A room that tells again what it has comes later than a newer session of the user.
                    Some(Displaced { life: bind.life, fence })
                } else {
                    records.update(at, &session);
                    homes.count_in(home);
                    homes.count_out(old.home);
                    // A room that is gone cannot be told, and the same connection has replaced nobody.
                    (alive && !same).then_some(Displaced { life: old_life, fence: old.fence })
                }
            }
        };
        Ok(Bound { fence, displaced, new_life })
    }

    /// Removes the session if it still carries this fence. True if it did.
    pub(crate) fn unbind(&mut self, key: Key<'_>, fence: u64) -> bool {
        match self.find(key) {
            Some((entry, records, homes)) => {
                let at = *entry.get();
                let session = records.session(at);
                if session.fence != fence {
                    return false;
                }
                // A session whose room is over went offline when the room did. One that is only out of sight still
                // speaks for its users: it is the one who unbinds.
                let was_online = !homes.is_over(session.home);
                entry.remove();
                records.remove(at);
                homes.count_out(session.home);
                was_online
            }
            None => false,
        }
    }

    pub(crate) fn look_up(&self, key: Key<'_>) -> Option<Whereabouts> {
        let session = self.session(key)?;
        self.homes.is_alive(session.home).then(|| Whereabouts {
            life: self.homes.life(session.home),
            conn: session.conn,
            fence: session.fence,
            since_ms: session.since_ms,
        })
    }

    /// Whether the user was in a room that does not answer, and may be there still.
    pub(crate) fn is_unsure(&self, key: Key<'_>, now: Instant) -> bool {
        self.session(key).is_some_and(|session| self.homes.is_unsure(session.home, now))
    }

    fn session(&self, key: Key<'_>) -> Option<Session> {
        let found = self.table.find(key.hash, |at| self.records.key(*at) == (key.app, key.uid.as_bytes()));
        found.map(|at| self.records.session(*at))
    }

    /// Notes what has become of lives of rooms and frees the sessions of all ended ones. Returns how many.
    pub(crate) fn purge(&mut self, fates: &[Fate], now: Instant) -> usize {
        if !self.homes.note(fates, now) {
            return 0;
        }
        let Shard { table, records, homes, .. } = self;
        let before = table.len();
        table.retain(|at| {
            let home = records.session(*at).home;
            let stays = !homes.is_over(home);
            if !stays {
                records.remove(*at);
                homes.count_out(home);
            }
            stays
        });
        before - table.len()
    }

    /// Sessions, those included that a purge has yet to free.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that table and records take.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.table.allocation_size() + self.records.allocated_bytes()
    }

    fn draw(&mut self, above: u64) -> u64 {
        let fence = self.next_fence.max(above.saturating_add(1));
        self.next_fence = fence.saturating_add(1);
        fence
    }

    fn find(&mut self, key: Key<'_>) -> Option<(OccupiedEntry<'_, RecordRef>, &mut Records, &mut Homes)> {
        let Shard { table, records, homes, .. } = self;
        let entry =
            table.find_entry(key.hash, |at| records.key(*at) == (key.app, key.uid.as_bytes())).ok()?;
        Some((entry, records, homes))
    }
}
