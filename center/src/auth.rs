//! API keys: who calls, and what may the caller do.
//!
//! A key is known only by its SHA-256, which the saver looks up. The answers are kept here for a while, so that a
//! saver is asked once per key and not once per push; "not known" is kept too, and in a room of its own, so that
//! a flood of made-up keys neither reaches the savers nor drives out the real ones.

use std::{
    future::Future,
    sync::{
        RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time::Instant};
use wire::id::AppId;

use crate::{
    config::AuthConfig,
    error::{Error, Result},
};

/// SHA-256 of a key's text.
pub type KeyHash = [u8; 32];

/// Hash under which a key is stored and looked up.
pub fn hash_key(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// One right of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Push, recall, kick and issue device tokens, in the key's own app.
    Push,
    /// Read users, ledgers and progress of the key's own app.
    Read,
    /// Create and change apps and keys, of every app.
    Admin,
}

impl Scope {
    /// All scopes, in the order in which they are listed to people.
    pub const ALL: [Scope; 3] = [Scope::Push, Scope::Read, Scope::Admin];

    /// The scope's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Push => "push",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn parse(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Adds a scope.
    #[must_use]
    pub fn with(self, scope: Scope) -> Scopes {
        Scopes(self.0 | 1 << scope as u8)
    }

    /// Whether the scope is in the set.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The set that these names make. Names that this version does not know are left out: they grant nothing.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Scopes {
        names.iter().filter_map(|name| Scope::parse(name.as_ref())).fold(Scopes::default(), Scopes::with)
    }
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The key's app.
    pub app: AppId,
    /// What it may do.
    pub scopes: Scopes,
}

impl Grant {
    /// Refuses a grant that lacks the scope.
    pub fn needs(&self, scope: Scope) -> Result<()> {
        if self.scopes.has(scope) { Ok(()) } else { Err(Error::Scope(scope)) }
    }
}

/// The key in the value of an `Authorization` header.
pub fn bearer(header: Option<&http::HeaderValue>) -> Result<&str> {
    let value = header.ok_or(Error::NoKey)?.to_str().map_err(|_| Error::NoKey)?;
    let (scheme, key) = value.split_once(' ').ok_or(Error::NoKey)?;
    let key = key.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() { Ok(key) } else { Err(Error::NoKey) }
}

/// Misses are looked up by so many at once, each lane one after the other. Callers with the same new key share a
/// lane, so that they cause one look-up. Sixteen keep a saver's round trip of 5 ms at 3,000 new keys a second.
const LANES: usize = 16;

/// Callers that wait for a look-up; more are told to come back. A waiting caller costs about 1 KiB.
const WAITING_MAX: usize = 4096;

/// While one caller renews an entry, the others go on with the old answer for so long.
const RENEWAL_MS: u64 = 5_000;

struct Known {
    grant: Grant,
    /// Time (ms of the cache) from which the next caller renews the entry.
    renew_at: AtomicU64,
    /// Until then the entry serves when no saver can be asked.
    keep_until: u64,
}

/// The keys that were seen lately.
pub struct KeyCache {
    limits: AuthConfig,
    origin: Instant,
    known: RwLock<HashMap<KeyHash, Known>>,
    /// Keys that the savers do not know, and until when that is believed.
    unknown: RwLock<HashMap<KeyHash, u64>>,
    lanes: [Mutex<()>; LANES],
    waiting: AtomicUsize,
}

enum Seen {
    Fresh(Grant),
    Stale(Grant),
    Unknown,
    Never,
}

impl KeyCache {
    /// An empty cache.
    pub fn new(limits: AuthConfig) -> KeyCache {
        KeyCache {
            limits,
            origin: Instant::now(),
            known: RwLock::default(),
            unknown: RwLock::default(),
            lanes: std::array::from_fn(|_| Mutex::default()),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What the key stands for; `find` asks a saver and is called only when the cache cannot tell.
    pub async fn get<F, Fut>(&self, hash: KeyHash, find: F) -> Result<Grant>
    where
        F: FnOnce(KeyHash) -> Fut + Send,
        Fut: Future<Output = Result<Option<Grant>>> + Send,
    {
        match self.seen(&hash) {
            Seen::Fresh(grant) => Ok(grant),
            Seen::Unknown => Err(Error::BadKey),
            // Boxed: this is rare, and every request would carry its state.
            seen => self.renew(hash, seen, find).boxed().await,
        }
    }

    async fn renew<F, Fut>(&self, hash: KeyHash, seen: Seen, find: F) -> Result<Grant>
    where
        F: FnOnce(KeyHash) -> Fut + Send,
        Fut: Future<Output = Result<Option<Grant>>> + Send,
    {
        if let Seen::Stale(grant) = seen {
            // A saver that is away does not lock out a key that was good a moment ago.
            return self.ask(hash, find).await.or_else(|e| e.is_transient().then_some(grant).ok_or(e));
        }
        let _waiting = Waiting::enter(&self.waiting)?;
        let _lane = self.lanes[usize::from(hash[0]) % LANES].lock().await;
        match self.seen(&hash) {
            Seen::Fresh(grant) | Seen::Stale(grant) => Ok(grant),
            Seen::Unknown => Err(Error::BadKey),
            Seen::Never => self.ask(hash, find).await,
        }
    }

    async fn ask<F, Fut>(&self, hash: KeyHash, find: F) -> Result<Grant>
    where
        F: FnOnce(KeyHash) -> Fut,
        Fut: Future<Output = Result<Option<Grant>>>,
    {
        let found = find(hash).await?;
        let now = self.now();
        match found {
            Some(grant) => {
                let renew_at = AtomicU64::new(now + millis(self.limits.key_ttl));
                let keep_until = now + millis(self.limits.key_ttl) + millis(self.limits.key_grace);
                let mut known = write(&self.known);
                make_room(&mut known, self.limits.cached_keys, |entry| entry.keep_until > now);
                known.insert(hash, Known { grant, renew_at, keep_until });
                Ok(grant)
            }
            None => {
                write(&self.known).remove(&hash);
                let mut unknown = write(&self.unknown);
                make_room(&mut unknown, self.limits.cached_keys, |until| *until > now);
                unknown.insert(hash, now + millis(self.limits.unknown_key_ttl));
                Err(Error::BadKey)
            }
        }
    }

    fn seen(&self, hash: &KeyHash) -> Seen {
        let now = self.now();
        if let Some(entry) = read(&self.known).get(hash).filter(|entry| entry.keep_until > now) {
            let due = entry.renew_at.load(Ordering::Relaxed);
            let renew = due <= now
                && entry
                    .renew_at
                    .compare_exchange(due, now + RENEWAL_MS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            return if renew { Seen::Stale(entry.grant) } else { Seen::Fresh(entry.grant) };
        }
        match read(&self.unknown).get(hash) {
            Some(until) if *until > now => Seen::Unknown,
            _ => Seen::Never,
        }
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

/// A poisoned lock means that a thread panicked between two plain map operations; the map itself is whole.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Leaves room for one more: what is over goes first, then whatever comes first.
fn make_room<V>(map: &mut HashMap<KeyHash, V>, cap: usize, alive: impl Fn(&V) -> bool) {
    if map.len() < cap {
        return;
    }
    map.retain(|_, value| alive(value));
    if map.len() >= cap
        && let Some(victim) = map.keys().next().copied()
    {
        map.remove(&victim);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Waiting<'a>> {
        let waiting = Waiting(count);
        if count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            Ok(waiting)
        } else {
            Err(Error::Full("key look-ups"))
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
