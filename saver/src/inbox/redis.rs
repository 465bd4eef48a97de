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
mod scripts;
#[cfg(test)]
mod tests;
mod words;

use link::{Call, Failure, Line, Link};
use scripts::Source;

/// Inboxes that one upkeep step looks at in each partition: under 1 ms of Redis.
const UPKEEP_STEP: usize = 200;
/// From this part of `maxmemory` on everything that has landed is let go, oldest first, in thousandths.
const PRESSURE: u64 = 850;

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

impl InboxStore for RedisInboxes {
    type Through = Infallible;
    const READS_AT_ONCE: usize = 32;

    fn through(&self) -> Option<&Infallible> {
        None
    }

    fn epoch(&self) -> Epoch {
        *self.shared.epochs.borrow()
    }

    async fn absent(&self, keys: &[InboxKey]) -> InboxResult<Vec<Absent>> {
        let live = self.live()?;
        let parts: Vec<_> = by_partition(&live, keys.iter()).collect();
        let calls = parts.iter().map(|(partition, indexes)| {
            let mut call = live.within(&scripts::ABSENT, *partition, 0, indexes.len());
            indexes.iter().for_each(|n| _ = call.cmd.arg(codec::name(&keys[*n])));
            call
        });
        let answers = live.link.run(Line::Calls, calls.collect()).await;
        let mut absent = Vec::new();
        for ((_, indexes), answer) in parts.into_iter().zip(answers) {
            let answer = answer.map_err(|e| self.failed(&live, e))?;
            let Value::Array(flags) = answer else { return Err(unexpected(&answer)) };
            let version = number(flags.first()).unwrap_or(0);
            let missing = indexes.into_iter().zip(&flags[1..]).filter(|(_, f)| **f == Value::Int(1));
            absent.extend(missing.map(|(n, _)| Absent { key: keys[n].clone(), version }));
        }
        Ok(absent)
    }

    async fn rebuild(&self, absent: &Absent, surviving: Vec<Surviving>, now_ms: u64) -> InboxResult<()> {
        let live = self.live()?;
        let mut call = live.about(&scripts::REBUILD, &absent.key, now_ms, surviving.len() + 1);
        call.cmd.arg(absent.version);
        for one in surviving.iter().filter(|s| s.expires_ms > now_ms) {
            call.cmd.arg(codec::surviving(one));
        }
        match self.call(&live, Line::Calls, call).await? {
            Value::Int(1) => Ok(()),
            _ => Err(InboxError::Changing),
        }
    }

    async fn load(&self, key: &InboxKey, read: Read, max_loads: u32, now_ms: u64) -> InboxResult<Loaded> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOAD, key, now_ms, 5);
        call.cmd.arg(i32::from(read.acknowledges));
        match read.after {
            Some(position) => call.cmd.arg(codec::asked(position).as_slice()),
            None => call.cmd.arg(""),
        };
        call.cmd.arg(read.max_messages.max(1)).arg(read.max_bytes).arg(max_loads);
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        let mut values = values.into_iter();
        let mut next = || number(values.next().as_ref());
        let Some(start) = next() else { return Err(InboxError::Absent) };
        let (through, more, _left) = (next().unwrap_or(start), next() == Some(1), next());
        let messages = values.filter_map(|v| match v {
            Value::BulkString(entry) => codec::loaded(entry),
            _ => None,
        });
        Ok(Loaded {
            start: Position { epoch: live.epoch, seq: Seq(start) },
            messages: messages.collect(),
            through: Seq(through),
            more,
            finished: Vec::new(),
        })
    }

    async fn ack(
        &self,
        items: &[(InboxKey, Position)],
        now_ms: u64,
    ) -> InboxResult<Vec<InboxResult<Vec<Finished>>>> {
        let live = self.live()?;
        let parts: Vec<_> = by_partition(&live, items.iter().map(|(key, _)| key)).collect();
        // Acks make room: they have twice as much of it in the journal.
        let most = 2 * self.shared.settings.journal_records;
        let calls = parts.iter().map(|(partition, indexes)| {
            let mut call = live.within(&scripts::ACK, *partition, now_ms, 2 * indexes.len() + 1);
            call.cmd.arg(most);
            for n in indexes {
                let (key, position) = &items[*n];
                call.cmd.arg(codec::name(key)).arg(codec::asked(*position).as_slice());
            }
            call
        });
        let answers = live.link.run(Line::Calls, calls.collect()).await;
        let mut results: Vec<InboxResult<Vec<Finished>>> = items.iter().map(|_| Ok(Vec::new())).collect();
        for ((_, indexes), answer) in parts.into_iter().zip(answers) {
            match answer {
                Ok(Value::Array(done)) => {
                    for (n, _) in indexes.into_iter().zip(done).filter(|(_, d)| *d != Value::Int(1)) {
                        results[n] = Err(InboxError::Absent);
                    }
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(e) => {
                    let e = self.failed(&live, e);
                    indexes.into_iter().for_each(|n| results[n] = Err(e.clone()));
                }
            }
        }
        Ok(results)
    }

    async fn recall(&self, key: &InboxKey, id: MessageId, now_ms: u64) -> InboxResult<Option<Finished>> {
        let live = self.live()?;
        let mut call = live.about(&scripts::RECALL, key, now_ms, 1);
        call.cmd.arg(id.0.to_be_bytes().as_slice());
        match self.call(&live, Line::Calls, call).await? {
            Value::Nil => Ok(None),
            Value::BulkString(row) => {
                let row = row.first_chunk().map(|row| Row(i64::from_be_bytes(*row)));
                Ok(row.map(|row| Finished { key: key.clone(), row, state: State::Recalled }))
            }
            _ => Err(InboxError::Absent),
        }
    }

    async fn depth(&self, key: &InboxKey, now_ms: u64) -> InboxResult<u64> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("d");
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        number(values.first()).ok_or(InboxError::Absent)
    }

    async fn overdue(&self, now_ms: u64, patience_ms: u64, max: usize) -> InboxResult<Vec<InboxKey>> {
        let live = self.live()?;
        let mine: Vec<u32> = (0..live.bases.len() as u32).filter(|p| (self.shared.mine)(*p)).collect();
        if mine.is_empty() {
            return Ok(Vec::new());
        }
        let share = (max / mine.len()).max(1);
        let calls = mine.iter().map(|partition| {
            let mut call = live.within(&scripts::OVERDUE, *partition, now_ms, 2);
            call.cmd.arg(patience_ms).arg(share);
            call
        });
        let mut keys = Vec::new();
        for answer in live.link.run(Line::Calls, calls.collect()).await {
            let answer = answer.map_err(|e| self.failed(&live, e))?;
            let Value::Array(names) = answer else { return Err(unexpected(&answer)) };
            keys.extend(names.iter().filter_map(|name| match name {
                Value::BulkString(name) => codec::key(name),
                _ => None,
            }));
        }
        Ok(keys)
    }

    async fn waiting(&self, key: &InboxKey, now_ms: u64) -> InboxResult<Option<Waiting>> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("w");
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        if values.is_empty() {
            return Err(InboxError::Absent);
        }
        let (Some(seq), Some(Value::BulkString(id))) = (number(values.get(1)), values.get(2)) else {
            return Ok(None);
        };
        let reaches = Position { epoch: live.epoch, seq: Seq(seq) };
        Ok(id.first_chunk().map(|id| Waiting { reaches, id: MessageId(u64::from_be_bytes(*id)) }))
    }

    async fn watch(&self, key: &InboxKey, now_ms: u64) -> InboxResult<()> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("p");
        self.call(&live, Line::Calls, call).await.map(drop)
    }

    async fn upkeep(&self, now_ms: u64) -> InboxResult<Upkeep> {
        let live = self.live()?;
        let memory = live.link.memory().await.map_err(|e| self.failed(&live, e))?;
        let pressed = memory.is_some_and(|(used, most)| used.saturating_mul(1000) / most >= PRESSURE);
        let now_s = now_ms / 1000;
        let idle_s = if pressed { now_s } else { now_s.saturating_sub(self.shared.settings.idle.as_secs()) };
        let mut done = Upkeep::default();
        for partition in (0..live.bases.len() as u32).filter(|p| (self.shared.mine)(*p)) {
            let one = self.evict(&live, partition, idle_s, now_ms).await?;
            done.visited += one.visited;
            done.evicted += one.evicted;
        }
        Ok(done)
    }
}

/// A plain command for a partition's key.
fn plain(name: &str, base: &str, key: &str) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(format!("{base}{key}"));
    cmd
}
