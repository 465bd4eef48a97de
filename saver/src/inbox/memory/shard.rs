//! A part of the in-process store: inboxes whose keys hash alike, under one lock.

use std::collections::VecDeque;

use hashbrown::HashTable;
use wire::id::Epoch;

use super::entries::{Inbox, Tally};
use crate::{
    inbox::{Absent, InboxError, InboxResult, Upkeep},
    model::{InboxKey, Staged, Staging, Surviving},
};

/// Evictions that are remembered, so that a rebuild can tell whether its inbox was among them. A rebuild takes
/// milliseconds; under the fiercest pressure a shard lets go of some hundred inboxes in that time.
const REMEMBERED_EVICTIONS: usize = 4096;
/// Inboxes that are asked to make room for one more before the store gives up and calls itself full.
const PRESSURE_TRIES: usize = 64;
/// Inboxes that one upkeep step looks at: about 100 µs under the lock.
const UPKEEP_STEP: usize = 512;

/// Bounds of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardLimits {
    pub(super) inboxes: usize,
    pub(super) messages: usize,
    pub(super) payload_bytes: usize,
    pub(super) idle_s: u32,
}

#[derive(Debug)]
pub(super) struct Shard {
    limits: ShardLimits,
    inboxes: HashTable<Inbox>,
    /// Every resident inbox once, for eviction in the order of a clock's hand.
    ring: VecDeque<InboxKey>,
    /// When each inbox on watch came there.
    watch: VecDeque<(u64, InboxKey)>,
    held: Tally,
    /// Greatest number of any inbox that was let go in this epoch: what comes back numbers after it, and so never
    /// twice.
    floor: u64,
    /// Count of evictions, and the hashes of the newest.
    evictions: u64,
    evicted: VecDeque<u64>,
}

impl Shard {
    pub(super) fn new(limits: ShardLimits) -> Self {
        Self {
            limits,
            inboxes: HashTable::new(),
            ring: VecDeque::new(),
            watch: VecDeque::new(),
            held: Tally::default(),
            floor: 0,
            evictions: 0,
            evicted: VecDeque::new(),
        }
    }

    /// Forgets everything, for a new epoch.
    pub(super) fn restart(&mut self) {
        let forgotten = self.evictions + 1 + REMEMBERED_EVICTIONS as u64;
        *self = Self::new(self.limits);
        // Rebuilds that are under way belong to the old epoch.
        self.evictions = forgotten;
    }

    pub(super) fn find(&mut self, key: &InboxKey, now_ms: u64) -> InboxResult<&mut Inbox> {
        let inbox = self.inboxes.find_mut(key.hash64(), |i| i.key == *key).ok_or(InboxError::Absent)?;
        inbox.touched_s = coarse(now_ms);
        inbox.used = true;
        Ok(inbox)
    }

    /// As `find`, and does not count as a use.
    pub(super) fn peek(&mut self, key: &InboxKey) -> InboxResult<&mut Inbox> {
        self.inboxes.find_mut(key.hash64(), |i| i.key == *key).ok_or(InboxError::Absent)
    }

    /// Whoever asks is about to use the inbox, so that it had better not be let go meanwhile.
    pub(super) fn absent(&mut self, key: &InboxKey) -> Option<Absent> {
        let here = self.peek(key).map(|inbox| inbox.used = true).is_ok();
        (!here).then(|| Absent { key: key.clone(), version: self.evictions })
    }

    pub(super) fn rebuild(
        &mut self,
        absent: &Absent,
        surviving: Vec<Surviving>,
        now_ms: u64,
    ) -> InboxResult<()> {
        let hash = absent.key.hash64();
        let since = self.evictions.saturating_sub(absent.version);
        let known = usize::try_from(since).is_ok_and(|n| n <= self.evicted.len());
        if !known || self.evicted.iter().rev().take(since as usize).any(|h| *h == hash) {
            return Ok(());
        }
        if self.absent(&absent.key).is_none() {
            return Ok(());
        }
        let mut inbox = Inbox::rebuilt(absent.key.clone(), surviving, self.floor, now_ms);
        let crowded = |s: &Self| {
            s.inboxes.len() >= s.limits.inboxes || s.held.messages + inbox.len() > s.limits.messages
        };
        self.make_room(crowded)?;
        inbox.touched_s = coarse(now_ms);
        self.held.messages += inbox.len();
        self.ring.push_back(absent.key.clone());
        self.inboxes.insert_unique(hash, inbox, |i| i.key.hash64());
        Ok(())
    }

    pub(super) fn stage(&mut self, item: &Staging, epoch: Epoch, now_ms: u64) -> InboxResult<Staged> {
        if self.held.messages >= self.limits.messages {
            // The inbox itself must not be let go on the way.
            self.find(&item.key, now_ms)?.pin();
            let room = self.make_room(|s| s.held.messages >= s.limits.messages);
            self.find(&item.key, now_ms)?.unpin();
            room?;
        }
        let bytes = item.payload.len();
        let hold = self.held.payload_bytes + bytes <= self.limits.payload_bytes;
        let (position, pushed_out) = self.find(&item.key, now_ms)?.stage(item, epoch, hold);
        self.held += Tally { messages: 1, payload_bytes: if hold { bytes } else { 0 } };
        Ok(Staged { key: item.key.clone(), position, pushed_out })
    }

    pub(super) fn gone(&mut self, gone: Tally) {
        self.held.messages -= gone.messages;
        self.held.payload_bytes -= gone.payload_bytes;
    }

    /// Puts an inbox on watch unless it is.
    pub(super) fn watch(&mut self, key: &InboxKey, since_ms: u64) {
        // An inbox that was let go may stand here twice; the bound keeps that from adding up.
        if self.watch.len() >= 2 * self.limits.inboxes {
            return;
        }
        let Some(inbox) = self.inboxes.find_mut(key.hash64(), |i| i.key == *key) else { return };
        if !std::mem::replace(&mut inbox.watched, true) {
            self.watch.push_back((since_ms, key.clone()));
        }
    }

    pub(super) fn overdue(&mut self, now_ms: u64, patience_ms: u64, max: usize, out: &mut Vec<InboxKey>) {
        while out.len() < max && self.watch.front().is_some_and(|(at, _)| at + patience_ms <= now_ms) {
            let Some((_, key)) = self.watch.pop_front() else { return };
            let Some(inbox) = self.inboxes.find_mut(key.hash64(), |i| i.key == key) else {
                // Let go under pressure, with messages in it.
                out.push(key);
                continue;
            };
            inbox.watched = false;
            match inbox.oldest_ms() {
                None => {}
                Some(oldest) if oldest + patience_ms > now_ms => self.watch(&key, oldest),
                Some(_) => out.push(key),
            }
        }
    }

    /// Lets go of idle inboxes.
    pub(super) fn upkeep(&mut self, now_ms: u64) -> Upkeep {
        let idle_since = coarse(now_ms).saturating_sub(self.limits.idle_s);
        let visited = self.ring.len().min(UPKEEP_STEP);
        let evicted = (0..visited).filter(|_| self.turn(|i| i.touched_s < idle_since)).count();
        Upkeep { visited, evicted }
    }

    pub(super) fn resident(&self) -> (usize, usize, usize) {
        (self.inboxes.len(), self.held.messages, self.held.payload_bytes)
    }

    /// Lets go of what has not been used since the clock's hand came by last, or else of what the hand is at.
    fn make_room(&mut self, crowded: impl Fn(&Self) -> bool) -> InboxResult<()> {
        let mut tries = 0;
        while crowded(self) {
            if tries == PRESSURE_TRIES || self.ring.is_empty() {
                return Err(InboxError::Full);
            }
            let desperate = tries >= PRESSURE_TRIES / 2;
            self.turn(|i| desperate || !std::mem::take(&mut i.used));
            tries += 1;
        }
        Ok(())
    }

    /// Moves the clock's hand by one inbox; lets it go if it may be and `wanted`.
    fn turn(&mut self, wanted: impl FnOnce(&mut Inbox) -> bool) -> bool {
        let Some(key) = self.ring.pop_front() else { return false };
        let Ok(mut slot) = self.inboxes.find_entry(key.hash64(), |i| i.key == key) else { return false };
        if slot.get().is_pinned() || !wanted(slot.get_mut()) {
            self.ring.push_back(key);
            return false;
        }
        let (inbox, _) = slot.remove();
        self.held.messages -= inbox.len();
        self.held.payload_bytes -= inbox.held_bytes();
        self.floor = self.floor.max(inbox.last());
        self.evictions += 1;
        if self.evicted.len() == REMEMBERED_EVICTIONS {
            self.evicted.pop_front();
        }
        self.evicted.push_back(key.hash64());
        true
    }
}

/// Seconds since 1970 in 32 bits, which last until 2106.
fn coarse(now_ms: u64) -> u32 {
    u32::try_from(now_ms / 1000).unwrap_or(u32::MAX - 1)
}
