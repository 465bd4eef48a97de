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
    /// Who is to be kicked: the session before.
    pub displaced: Option<Displaced>,
    /// This life of the room was not known here: an earlier one has ended, and is to be ended in the other shards.
    pub new_life: bool,
}

/// What telling a session again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The user has a newer session elsewhere: the one that was told is over.
    pub lost: bool,
    /// Who is to be kicked: an older session that was here.
    pub displaced: Option<Displaced>,
    /// As in [`Bound::new_life`].
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

/// The store has no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session store is at its bound")]
pub struct StoreFull;

/// Who was there when a session was to be entered.
enum Found {
    Nobody,
    Session { at: RecordRef, old: Session },
}

#[derive(Debug)]
pub(crate) struct Shard {
    table: HashTable<RecordRef>,
    records: Records,
    homes: Homes,
    next_fence: u64,
    /// Sessions at most.
    most: usize,
}

/// The key of a session with its hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) hash: u64,
    pub(crate) app: u32,
    pub(crate) uid: &'a str,
}

impl Shard {
    /// An empty shard for so many sessions.
    pub(crate) fn new(most: usize) -> Shard {
        Shard {
            table: HashTable::new(),
            records: Records::new(),
            homes: Homes::default(),
            next_fence: 0,
            most,
        }
    }

    /// Enters a new session with a fence of at least `floor`, above all that the user has had here.
    pub(crate) fn bind(
        &mut self,
        key: Key<'_>,
        bind: Bind,
        floor: u64,
        hasher: impl Fn((u32, &[u8])) -> u64,
    ) -> Result<Bound, StoreFull> {
        let (home, new_life) = match self.homes.enter(bind.life) {
            Entered::Home(home) => (home, false),
            Entered::NewLife(home) => (home, true),
            // Whoever asked is dead and nobody waits for the answer, or it has registered again and is about to tell all
            // its sessions. The session must not come to be.
            Entered::Stale => {
                return Ok(Bound { fence: self.draw(floor), displaced: None, new_life: false });
            }
            Entered::Full => return Err(StoreFull),
        };
        let fence = self.draw(floor);
        let session = Session { conn: bind.conn, fence, since_ms: bind.since_ms, home };
        let displaced = match self.enter(key, session, hasher)? {
            Found::Nobody => None,
            Found::Session { at, old } => {
                // A room that is gone cannot be told, and the same connection has replaced nobody.
                let kicked = self.homes.is_alive(old.home) && !self.same(&old, &session);
                let displaced =
                    kicked.then(|| Displaced { life: self.homes.life(old.home), fence: old.fence });
                self.replace(at, &old, &session);
                displaced
            }
        };
        Ok(Bound { fence, displaced, new_life })
    }

    /// Enters a session that has its fence already. Of two sessions the one with the higher fence stays, whichever was
    /// told first.
    pub(crate) fn restore(
        &mut self,
        key: Key<'_>,
        bind: Bind,
        fence: u64,
        hasher: impl Fn((u32, &[u8])) -> u64,
    ) -> Result<Restored, StoreFull> {
        let (home, new_life) = match self.homes.enter(bind.life) {
            Entered::Home(home) => (home, false),
            Entered::NewLife(home) => (home, true),
            Entered::Stale => return Ok(Restored { lost: false, displaced: None, new_life: false }),
            Entered::Full => return Err(StoreFull),
        };
        // Who binds next is newer than all that were told.
        self.next_fence = self.next_fence.max(fence.saturating_add(1));
        let session = Session { conn: bind.conn, fence, since_ms: bind.since_ms, home };
        let (mut lost, mut displaced) = (false, None);
        if let Found::Session { at, old } = self.enter(key, session, hasher)? {
            let same = self.same(&old, &session);
            if self.homes.is_over(old.home) || old.fence <= fence {
                let kicked = !same && old.fence < fence && self.homes.is_alive(old.home);
                displaced = kicked.then(|| Displaced { life: self.homes.life(old.home), fence: old.fence });
                self.replace(at, &old, &session);
            } else {
                // The same connection may have bound anew while its old session was being told.
                lost = !same;
            }
        }
        Ok(Restored { lost, displaced, new_life })
    }

    /// Puts the session where nobody is, or says who is there.
    fn enter(
        &mut self,
        key: Key<'_>,
        session: Session,
        hasher: impl Fn((u32, &[u8])) -> u64,
    ) -> Result<Found, StoreFull> {
        let Shard { table, records, homes, most, .. } = self;
        let full = table.len() >= *most;
        let found = table.entry(
            key.hash,
            |at| records.key(*at) == (key.app, key.uid.as_bytes()),
            |at| hasher(records.key(*at)),
        );
        match found {
            Entry::Vacant(_) if full => Err(StoreFull),
            Entry::Vacant(place) => {
                let at = records.insert(key.app, key.uid, &session).ok_or(StoreFull)?;
                place.insert(at);
                homes.count_in(session.home);
                Ok(Found::Nobody)
            }
            Entry::Occupied(entry) => {
                let at = *entry.get();
                Ok(Found::Session { at, old: records.session(at) })
            }
        }
    }

    fn same(&self, one: &Session, other: &Session) -> bool {
        self.homes.life(one.home) == self.homes.life(other.home) && one.conn == other.conn
    }

    fn replace(&mut self, at: RecordRef, old: &Session, new: &Session) {
        self.records.update(at, new);
        self.homes.count_in(new.home);
        self.homes.count_out(old.home);
    }

    /// Removes the session if it still carries this fence. True if it did.
    pub(crate) fn unbind(&mut self, key: Key<'_>, fence: u64) -> bool {
        self.remove_if(key, |session, _| session.fence == fence)
    }

    /// Removes the session that this very bind has made.
    pub(crate) fn take_back(&mut self, key: Key<'_>, bind: Bind) -> bool {
        self.remove_if(key, |session, homes| {
            homes.life(session.home) == bind.life
                && session.conn == bind.conn
                && session.since_ms == bind.since_ms
        })
    }

    fn remove_if(&mut self, key: Key<'_>, meant: impl FnOnce(&Session, &Homes) -> bool) -> bool {
        match self.find(key) {
            Some((entry, records, homes)) => {
                let at = *entry.get();
                let session = records.session(at);
                if !meant(&session, homes) {
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
        self.free(|session, _, homes| homes.is_over(session.home))
    }

    /// Frees the sessions of users that are not to be kept. Returns how many.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32, &[u8]) -> bool) -> usize {
        self.free(|_, (app, uid), _| !keep(app, uid))
    }

    /// Forgets everything but the fences that were given out.
    pub(crate) fn clear(&mut self) -> usize {
        let sessions = self.table.len();
        *self = Shard { next_fence: self.next_fence, ..Shard::new(self.most) };
        sessions
    }

    fn free(&mut self, goes: impl Fn(&Session, (u32, &[u8]), &Homes) -> bool) -> usize {
        let Shard { table, records, homes, .. } = self;
        let before = table.len();
        table.retain(|at| {
            let session = records.session(*at);
            let goes = goes(&session, records.key(*at), homes);
            if goes {
                records.remove(*at);
                homes.count_out(session.home);
            }
            !goes
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

    fn draw(&mut self, floor: u64) -> u64 {
        let fence = self.next_fence.max(floor);
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
