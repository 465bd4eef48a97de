//! The in-process inbox store.
//!
//! Memory at worst: 475 B for each resident inbox (uid of 30 B included), 290 B for each message with its collapse key, and
//! `payload_bytes` for payloads; see [`MemoryLimits`]. What does not fit is let go and comes back from the archive.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use wire::id::{Epoch, MessageId, Position};

use super::{Absent, InboxResult, InboxStore, Upkeep, Waiting, WriteThrough};
use crate::model::{Finished, InboxKey, Loaded, Read, Staged, Staging, Surviving};

mod entries;
mod shard;
#[cfg(test)]
mod tests;

use entries::Inbox;
use shard::{Shard, ShardLimits};

/// Locks of the store. The writer and the calls of a few cores meet here, for about a microsecond each.
const SHARDS: usize = 16;

/// Bounds of the in-process store.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Inboxes held.
    pub inboxes: usize,
    /// Messages held, without their payloads. At least 16 times the largest inbox cap, because each of the 16
    /// shards gets its share.
    pub messages: usize,
    /// Bytes of payloads held; further ones are read from the archive when they are loaded.
    pub payload_bytes: usize,
    /// An inbox that nobody has touched for so long is let go.
    pub idle_s: u32,
}

/// What the store holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Inboxes.
    pub inboxes: usize,
    /// Messages.
    pub messages: usize,
    /// Bytes of payloads.
    pub payload_bytes: usize,
}

/// The in-process inbox store.
#[derive(Debug)]
pub struct MemoryInboxes {
    shards: Box<[Mutex<Shard>]>,
    epoch: AtomicU64,
    /// Shard whose upkeep is next, and whose overdue inboxes.
    next_upkeep: AtomicUsize,
    next_overdue: AtomicUsize,
}

impl MemoryInboxes {
    /// An empty store in the given epoch.
    pub fn new(epoch: Epoch, limits: MemoryLimits) -> Self {
        let share = ShardLimits {
            inboxes: (limits.inboxes / SHARDS).max(1),
            messages: (limits.messages / SHARDS).max(1),
            payload_bytes: limits.payload_bytes / SHARDS,
            idle_s: limits.idle_s,
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(share))).collect(),
            epoch: AtomicU64::new(epoch.0),
            next_upkeep: AtomicUsize::new(0),
            next_overdue: AtomicUsize::new(0),
        }
    }

    /// What the store holds now.
    pub fn resident(&self) -> Resident {
        (0..SHARDS).fold(Resident::default(), |sum, index| {
            let (inboxes, messages, payload_bytes) = self.lock(index).resident();
            Resident {
                inboxes: sum.inboxes + inboxes,
                messages: sum.messages + messages,
                payload_bytes: sum.payload_bytes + payload_bytes,
            }
        })
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        // A panic under the lock leaves counts at worst slightly wrong; going on is better than refusing all.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, key: &InboxKey) -> MutexGuard<'_, Shard> {
        // The table inside a shard uses the hash's low and top bits.
        self.lock((key.hash64() >> 32) as usize % SHARDS)
    }

    /// Does something with an inbox and settles the shard's accounts.
    fn with<R>(
        &self,
        key: &InboxKey,
        now_ms: u64,
        work: impl FnOnce(&mut Inbox) -> (R, entries::Tally),
    ) -> InboxResult<R> {
        let mut shard = self.shard(key);
        let (result, gone) = work(shard.find(key, now_ms)?);
        shard.gone(gone);
        Ok(result)
    }
}

impl InboxStore for MemoryInboxes {
    type Through = Self;
    const READS_AT_ONCE: usize = 1;

    fn through(&self) -> Option<&Self> {
        Some(self)
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    async fn absent(&self, keys: &[InboxKey]) -> InboxResult<Vec<Absent>> {
        Ok(keys.iter().filter_map(|key| self.shard(key).absent(key)).collect())
    }

    async fn rebuild(&self, absent: &Absent, surviving: Vec<Surviving>, now_ms: u64) -> InboxResult<()> {
        self.shard(&absent.key).rebuild(absent, surviving, now_ms)
    }

    async fn load(&self, key: &InboxKey, read: Read, max_loads: u32, now_ms: u64) -> InboxResult<Loaded> {
        let epoch = self.epoch();
        let loaded = self.with(key, now_ms, |inbox| inbox.load(read, epoch, max_loads, now_ms))?;
        if !loaded.messages.is_empty() {
            self.shard(key).watch(key, now_ms);
        }
        Ok(loaded)
    }

    async fn ack(
        &self,
        items: &[(InboxKey, Position)],
        now_ms: u64,
    ) -> InboxResult<Vec<InboxResult<Vec<Finished>>>> {
        let epoch = self.epoch();
        let one = |(key, position): &(InboxKey, Position)| {
            let mut finished = Vec::new();
            if position.epoch <= epoch {
                self.with(key, now_ms, |inbox| ((), inbox.ack(*position, &mut finished)))?;
            }
            Ok(finished)
        };
        Ok(items.iter().map(one).collect())
    }

    async fn recall(&self, key: &InboxKey, id: MessageId, _: u64) -> InboxResult<Option<Finished>> {
        let mut shard = self.shard(key);
        let (finished, gone) = shard.peek(key)?.recall(id);
        shard.gone(gone);
        Ok(finished)
    }

    async fn depth(&self, key: &InboxKey, now_ms: u64) -> InboxResult<u64> {
        Ok(self.shard(key).find(key, now_ms)?.depth(now_ms))
    }

    async fn overdue(&self, now_ms: u64, patience_ms: u64, max: usize) -> InboxResult<Vec<InboxKey>> {
        let mut out = Vec::new();
        let first = self.next_overdue.fetch_add(1, Ordering::Relaxed);
        for index in 0..SHARDS {
            self.lock((first + index) % SHARDS).overdue(now_ms, patience_ms, max, &mut out);
        }
        Ok(out)
    }

    async fn waiting(&self, key: &InboxKey, now_ms: u64) -> InboxResult<Option<Waiting>> {
        let epoch = self.epoch();
        Ok(self.shard(key).peek(key)?.waiting(epoch, now_ms))
    }

    async fn watch(&self, key: &InboxKey, now_ms: u64) -> InboxResult<()> {
        self.shard(key).watch(key, now_ms);
        Ok(())
    }

    async fn upkeep(&self, now_ms: u64) -> InboxResult<Upkeep> {
        let index = self.next_upkeep.fetch_add(1, Ordering::Relaxed) % SHARDS;
        Ok(self.lock(index).upkeep(now_ms))
    }
}

impl WriteThrough for MemoryInboxes {
    async fn restart(&self, epoch: Epoch) -> InboxResult<()> {
        for index in 0..SHARDS {
            self.lock(index).restart();
        }
        self.epoch.store(epoch.0, Ordering::Release);
        Ok(())
    }

    async fn stage(&self, items: &[Staging], now_ms: u64) -> InboxResult<Vec<InboxResult<Staged>>> {
        let epoch = self.epoch();
        Ok(items
            .iter()
            .map(|item| {
                let mut shard = self.shard(&item.key);
                shard.stage(item, epoch, now_ms)
            })
            .collect())
    }

    async fn publish(&self, staged: &[Staged], now_ms: u64) -> InboxResult<()> {
        for one in staged {
            let mut shard = self.shard(&one.key);
            // It is pinned, so it is here, unless the store was restarted in between.
            let Ok(inbox) = shard.find(&one.key, now_ms) else { continue };
            let gone = inbox.publish(one.position.seq);
            shard.gone(gone);
            shard.watch(&one.key, now_ms);
        }
        Ok(())
    }

    async fn withdraw(&self, staged: &[Staged]) -> InboxResult<()> {
        for one in staged {
            let mut shard = self.shard(&one.key);
            let Ok(inbox) = shard.peek(&one.key) else { continue };
            let gone = inbox.withdraw(one.position.seq);
            shard.gone(gone);
        }
        Ok(())
    }

    async fn settle(&self, finished: &[Finished]) -> InboxResult<()> {
        for one in finished {
            let mut shard = self.shard(&one.key);
            // A restart in between has forgotten the inbox and its pins.
            if let Ok(inbox) = shard.peek(&one.key) {
                inbox.unpin();
            }
        }
        Ok(())
    }
}
