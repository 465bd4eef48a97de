//! All sessions, in shards with a lock each.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use foldhash::quality::RandomState;

use crate::{
    homes::Fate,
    shard::{Bind, Bound, Key, Restored, Shard, StoreFull, Whereabouts},
};

/// So many locks that a dozen threads hardly ever meet, and a purge of one holds it for well under a millisecond
/// with a million sessions in all. Must be a power of two.
const SHARDS: usize = 256;

/// Where each user is. Locks are held for one operation on one user, never two at once, and never across an await.
///
/// Fences count up from the *horizon*, which gives them their high 32 bits: the register's life, and, where discovery counts
/// revisions, [`raised`](Store::raise) with every change of owners. So fences of different registers compare: whoever comes to
/// own a user draws above the owner before. Below the next horizon a shard has 2^32 of them.
///
/// Memory: at most 88 bytes a session with uids of up to 40 bytes (a record of 72, and 5 of table at a load of
/// 7/16 to 7/8), which `cost_of_a_session` measures.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    horizon: AtomicU64,
}

impl Store {
    /// An empty store in the `life`-th life of this register; lives must grow.
    #[must_use]
    pub fn new(life: u64) -> Store {
        Store::with_bound(life, usize::MAX)
    }

    /// The same for at most so many sessions, or a few less: each shard has its part.
    #[must_use]
    pub fn with_bound(life: u64, sessions: usize) -> Store {
        let most = sessions.div_ceil(SHARDS);
        Store {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(most))).collect(),
            hasher: RandomState::default(),
            horizon: AtomicU64::new(life),
        }
    }

    /// Fences of new sessions are from now on above those that anybody drew before the horizon was there.
    pub fn raise(&self, horizon: u64) {
        self.horizon.fetch_max(horizon.min(u64::from(u32::MAX)), Ordering::Relaxed);
    }

    /// Puts the user where the bind says.
    ///
    /// # Errors
    /// [`StoreFull`]
    pub fn bind(&self, app: u32, uid: &str, bind: Bind) -> Result<Bound, StoreFull> {
        let key = self.key(app, uid);
        let floor = (self.horizon.load(Ordering::Relaxed) << 32) + 1;
        self.shard(key.hash).bind(key, bind, floor, |(app, uid)| hash(&self.hasher, app, uid))
    }

    /// Enters a session that a room tells again, with the fence that it has.
    ///
    /// # Errors
    /// [`StoreFull`]
    pub fn restore(&self, app: u32, uid: &str, bind: Bind, fence: u64) -> Result<Restored, StoreFull> {
        let key = self.key(app, uid);
        self.shard(key.hash).restore(key, bind, fence, |(app, uid)| hash(&self.hasher, app, uid))
    }

    /// Removes the user's session if it still carries this fence. True if the user is offline because of it.
    pub fn unbind(&self, app: u32, uid: &str, fence: u64) -> bool {
        let key = self.key(app, uid);
        self.shard(key.hash).unbind(key, fence)
    }

    /// Removes the session that this very bind has made; its room was never answered. True if it was there.
    pub fn take_back(&self, app: u32, uid: &str, bind: Bind) -> bool {
        let key = self.key(app, uid);
        self.shard(key.hash).take_back(key, bind)
    }

    /// Where the user is; None = offline.
    #[must_use]
    pub fn look_up(&self, app: u32, uid: &str) -> Option<Whereabouts> {
        let key = self.key(app, uid);
        self.shard(key.hash).look_up(key)
    }

    /// Whether a user who is not found was, until a moment ago, in a room that does not answer, and may be there still.
    #[must_use]
    pub fn is_unsure(&self, app: u32, uid: &str, now: Instant) -> bool {
        let key = self.key(app, uid);
        self.shard(key.hash).is_unsure(key, now)
    }

    /// Notes in every shard what has become of lives of rooms, and frees the sessions of those that are over. Returns how
    /// many.
    /// Yields between shards: a purge of millions must not hold up a runtime worker.
    pub async fn purge(&self, fates: &[Fate]) -> usize {
        let (mut freed, now) = (0, Instant::now());
        for shard in &self.shards {
            freed += lock(shard).purge(fates, now);
            tokio::task::yield_now().await;
        }
        freed
    }

    /// Frees the sessions of users that are not to be kept, shard by shard as [`Store::purge`] does. Returns how many.
    pub async fn retain(&self, keep: impl Fn(u32, &[u8]) -> bool) -> usize {
        let mut freed = 0;
        for shard in &self.shards {
            freed += lock(shard).retain(&keep);
            tokio::task::yield_now().await;
        }
        freed
    }

    /// Forgets all sessions, but not which fences were given out. Returns how many it were.
    pub fn clear(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).clear()).sum()
    }

    /// Sessions, those included that a purge has yet to free.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// True if nobody is online.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the sessions take, spare capacity included.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).allocated_bytes()).sum()
    }

    fn key<'a>(&self, app: u32, uid: &'a str) -> Key<'a> {
        Key { hash: hash(&self.hasher, app, uid.as_bytes()), app, uid }
    }

    /// Bits from the middle of the hash: the tables use those at both ends.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(hash >> 40) as usize % SHARDS])
    }
}

fn hash(state: &RandomState, app: u32, uid: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u32(app);
    hasher.write(uid);
    hasher.finish()
}

/// A shard is consistent between any two statements that can panic, so a poisoned lock is taken as it is.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
