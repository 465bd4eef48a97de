//! The shared inbox store, in Redis.
//!
//! An inbox is one hash: a head of 61 bytes, and an entry with its payload for each message, under slots that are
//! dense. By `MEMORY USAGE` of Redis 7.0, an inbox of one message of 256 B takes 640 B this way and an empty one 168 B; a
//! stream takes 4,768 B (its first node is made in full), and a sorted set 1,256 B without the head that it needs too.
//!
//! Commands for a message, as the scripts call them: append 2 (`HGET` head, `HSET` head and entry), ack 3 (`HGET` head,
//! `HGET` entry, `HDEL`) and one `HSET`; and for each partition of a batch 5 (counters, ids, journal).
//!
//! A message to many is one body with many names, and its payload is in Redis once for each partition, until the message
//! ends. Memory at worst: payloads and 100 B for each message and 250 B for each inbox that is in Redis, which idle eviction
//! and `maxmemory` (policy `noeviction`) bound; `journal_bytes` and a third for each partition; 75 B for each of
//! 2 × `ids` remembered message ids; 200 B and its name for each of 2 × `words` idempotency keys, and 2 × `filter_bytes`.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use cluster::rendezvous;
use redis::{Cmd, Value};
use tokio::sync::{Notify, watch};
use wire::id::{Epoch, MessageId, Position, Seq};

use super::{
    Absent, Entry, InboxError, InboxResult, InboxStore, JournalPart, Journaled, Lag, Mark, Placed, Upkeep,
    Waiting,
};
use crate::{
    metrics::EpochsBegun,
    model::{Finished, InboxKey, Loaded, Read, Row, State, Surviving},
};

mod codec;
mod journal;
pub mod life;
mod link;
mod perils;
mod scripts;
mod store;
#[cfg(test)]
mod tests;
mod words;

use link::{Call, Failure, Line, Link};
use perils::Perils;
use scripts::Source;

/// Inboxes that one upkeep step looks at in each partition: under 1 ms of Redis.
const UPKEEP_STEP: usize = 200;

/// How to use Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// URLs. Of several, the one that is a master is used.
    pub nodes: Vec<String>,
    /// They are nodes of a Redis Cluster.
    pub cluster: bool,
    /// Name of this cluster, in all keys.
    pub name: String,
    /// Replicas that must have an append before it is answered.
    pub wait_replicas: u32,
    /// Partitions, when the store's first life begins.
    pub partitions: u32,
    /// Lines that a partition's journal may hold.
    pub journal_records: usize,
    /// Bytes that a partition's journal may hold.
    pub journal_bytes: usize,
    /// Message ids that are remembered, in all partitions together.
    pub ids: usize,
    /// Idempotency keys that are kept with what they are tied to, in all partitions together.
    pub words: usize,
    /// Bytes of a filter's bucket, in all partitions together: 1.5 for each further key that is known to be one.
    pub filter_bytes: usize,
    /// An inbox that nobody has used for so long is let go once the archive has it.
    pub idle: Duration,
    /// For a connection and for an answer.
    pub timeout: Duration,
}

/// What is used while Redis answers and the epoch stands.
struct Live {
    link: Link,
    epoch: Epoch,
    identity: String,
    bases: Vec<String>,
    /// What all numbers of the life are greater than.
    first: u64,
}

/// What is remembered of the last life when its link is gone.
#[derive(Clone)]
struct Last {
    epoch: Epoch,
    identity: String,
    bases: Vec<String>,
    first: u64,
}

/// Says which partitions this process lands, sweeps and keeps tidy.
pub type Mine = Arc<dyn Fn(u32) -> bool + Send + Sync>;

struct Shared {
    settings: RedisSettings,
    mine: Mine,
    live: ArcSwapOption<Live>,
    /// The keeper of the life is to look.
    trouble: Notify,
    /// Why there is no life to use.
    reason: Mutex<String>,
    epochs: watch::Sender<Epoch>,
    /// Epochs that this store began, by reason.
    begun: EpochsBegun,
    last: Mutex<Option<Last>>,
    /// Lives up to this lack something that the archive has. Changed and read with `last` locked.
    lacking: AtomicU64,
    perils: Perils,
}

/// The shared inbox store. Clones share everything. It refuses all until [`life::keep`] has judged its life.
#[derive(Clone)]
pub struct RedisInboxes {
    shared: Arc<Shared>,
}

impl RedisInboxes {
    /// A store that is yet to connect.
    pub fn new(settings: RedisSettings, mine: Mine) -> Self {
        let shared = Shared {
            settings,
            mine,
            live: ArcSwapOption::empty(),
            trouble: Notify::new(),
            reason: Mutex::new("not connected yet".to_owned()),
            epochs: watch::channel(Epoch::default()).0,
            begun: EpochsBegun::default(),
            last: Mutex::default(),
            lacking: AtomicU64::new(0),
            perils: Perils::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Counts the epochs that it begins there.
    #[must_use]
    pub fn counting(mut self, epochs: EpochsBegun) -> Self {
        // Nobody else has it yet.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.begun = epochs;
        }
        self
    }

    /// The epoch; changes are news of a life that has begun. 0 before the first.
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.shared.epochs.subscribe()
    }

    /// Whether Redis can be used now.
    pub fn is_up(&self) -> bool {
        self.shared.live.load().is_some()
    }

    fn live(&self) -> InboxResult<Arc<Live>> {
        self.shared.live.load_full().ok_or_else(|| {
            let reason = self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner);
            InboxError::Unavailable(reason.clone())
        })
    }

    /// What a failed call means for the caller; the keeper is told what concerns the whole store.
    fn failed(&self, live: &Arc<Live>, failure: Failure) -> InboxError {
        match failure {
            Failure::Behind => InboxError::Behind,
            Failure::Full => InboxError::Full,
            Failure::Stale => {
                self.shared.trouble.notify_one();
                InboxError::Changing
            }
            Failure::Broken(e) => {
                tracing::error!(error = e, "a script failed");
                InboxError::Unavailable(e)
            }
            Failure::Down(e) => {
                self.down(live, &e);
                InboxError::Unavailable(e)
            }
        }
    }

    /// Gives a link up.
    fn down(&self, live: &Arc<Live>, reason: &str) {
        let now = self.shared.live.load();
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, live)) {
            *self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
            self.shared.live.store(None);
            self.shared.trouble.notify_one();
        }
    }

    async fn call(&self, live: &Arc<Live>, line: Line, call: Call) -> InboxResult<Value> {
        live.link.one(line, call).await.map_err(|e| self.failed(live, e))
    }

    /// Upkeep of one partition; `idle_s` is the time before which an inbox is idle.
    async fn evict(&self, live: &Arc<Live>, partition: u32, idle_s: u64, now_ms: u64) -> InboxResult<Upkeep> {
        let mut call = live.within(&scripts::EVICT, partition, now_ms, 2);
        call.cmd.arg(idle_s).arg(UPKEEP_STEP);
        match self.call(live, Line::Calls, call).await? {
            Value::Array(numbers) => Ok(Upkeep {
                visited: number(numbers.first()).unwrap_or(0) as usize,
                evicted: number(numbers.get(1)).unwrap_or(0) as usize,
            }),
            other => Err(unexpected(&other)),
        }
    }
}

impl Live {
    fn partition_of(&self, key: &InboxKey) -> u32 {
        partition_of(key, self.bases.len())
    }

    /// A call of a script that works within the epoch.
    fn within(&self, source: &'static Source, partition: u32, now_ms: u64, arguments: usize) -> Call {
        let mut cmd = source.by_hash(&self.bases[partition as usize], arguments + 2);
        cmd.arg(self.epoch.0).arg(now_ms);
        Call { cmd, source: Some(source) }
    }

    /// The same, about one inbox.
    fn about(&self, source: &'static Source, key: &InboxKey, now_ms: u64, arguments: usize) -> Call {
        let mut call = self.within(source, self.partition_of(key), now_ms, arguments + 1);
        call.cmd.arg(codec::name(key));
        call
    }
}

/// Where an inbox is kept. The hash is the cluster's fixed one; its high half, so that it has nothing to do with who
/// owns the user.
fn partition_of(key: &InboxKey, partitions: usize) -> u32 {
    let hash = rendezvous::user_key(key.app().0, key.uid().as_str());
    ((hash >> 32) % partitions.max(1) as u64) as u32
}

fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Int(n) => u64::try_from(*n).ok(),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn unexpected(value: &Value) -> InboxError {
    let text: String = format!("{value:?}").chars().take(120).collect();
    InboxError::Unavailable(format!("Redis answers what was not asked: {text}"))
}

/// Indexes of the keys of each partition.
fn by_partition<'a>(
    live: &Live,
    keys: impl Iterator<Item = &'a InboxKey>,
) -> impl Iterator<Item = (u32, Vec<usize>)> {
    let mut parts = vec![Vec::new(); live.bases.len()];
    for (n, key) in keys.enumerate() {
        parts[live.partition_of(key) as usize].push(n);
    }
    parts.into_iter().enumerate().filter(|(_, p)| !p.is_empty()).map(|(partition, p)| (partition as u32, p))
}

/// A plain command for a partition's key.
fn plain(name: &str, base: &str, key: &str) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(format!("{base}{key}"));
    cmd
}
