//! Tails of the broadcast logs, so that a storm of readers is not a storm on the archive.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use prost::Message;
use wire::id::{AppId, Bseq, Cursor, MessageId};

use crate::archive::{BroadcastPage, LoggedBroadcast};

/// What a cached entry costs besides its payload, audience and filter, and its share of the payload's place.
const ENTRY_BYTES: usize = 288;

#[derive(Debug)]
struct Tail {
    head: Cursor,
    /// The tail holds everything after this number.
    after: Bseq,
    entries: VecDeque<LoggedBroadcast>,
    /// Payloads of the entries, and how many of them share each.
    payloads: HashMap<MessageId, (Bytes, usize)>,
}

impl Tail {
    fn new(head: Cursor, after: Bseq) -> Self {
        Self { head, after, entries: VecDeque::new(), payloads: HashMap::new() }
    }

    /// Adds an entry at the end; answers the bytes that it costs.
    fn push(&mut self, mut entry: LoggedBroadcast) -> usize {
        let mut bytes = size(&entry);
        let (payload, shared) = self.payloads.entry(entry.id).or_default();
        // One that was over when it was read has none.
        if payload.is_empty() {
            payload.clone_from(&entry.payload);
            bytes += payload.len();
        }
        *shared += 1;
        entry.payload = payload.clone();
        self.entries.push_back(entry);
        bytes
    }

    /// Drops the oldest entry; answers it, and the bytes that it cost.
    fn pop(&mut self) -> Option<(LoggedBroadcast, usize)> {
        let entry = self.entries.pop_front()?;
        let mut bytes = size(&entry);
        if let Some((payload, shared)) = self.payloads.get_mut(&entry.id) {
            *shared -= 1;
            if *shared == 0 {
                bytes += payload.len();
                self.payloads.remove(&entry.id);
            }
        }
        Some((entry, bytes))
    }
}

#[derive(Debug, Default)]
struct Inner {
    tails: HashMap<AppId, Tail>,
    bytes: usize,
}

/// Tails of the logs of the apps that this saver owns, within a bound in bytes. What an app's head is stays known
/// even when its entries had to go, because a head that was read too early must never replace a newer one.
#[derive(Debug)]
pub(super) struct LogCache {
    inner: Mutex<Inner>,
    limit: usize,
}

impl LogCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// Takes in what has just been committed.
    pub(super) fn append(&self, app: AppId, broadcast: LoggedBroadcast) {
        let mut inner = self.lock();
        let place = broadcast.place;
        let before = Bseq(place.bseq.0.saturating_sub(1));
        let first = Cursor { epoch: place.epoch, bseq: before };
        let tail = inner.tails.entry(app).or_insert_with(|| Tail::new(first, before));
        if place.bseq <= tail.head.bseq {
            return;
        }
        let mut dropped = 0;
        if tail.head.bseq != before {
            // Another process has written to the log: what is known is not its tail any more.
            dropped = std::iter::from_fn(|| tail.pop()).map(|(_, bytes)| bytes).sum();
            tail.after = before;
        }
        tail.head = place;
        let bytes = tail.push(broadcast);
        inner.bytes = inner.bytes + bytes - dropped;
        inner.shrink(self.limit, app);
    }

    /// Takes in a page that the archive gave for what comes after `after`, if it is the log's end and nothing is
    /// known of the log yet.
    pub(super) fn fill(&self, app: AppId, after: Bseq, page: &BroadcastPage) {
        let mut inner = self.lock();
        if page.more || page.head.epoch.0 == 0 || inner.tails.contains_key(&app) {
            return;
        }
        let mut tail = Tail::new(page.head, after.min(page.head.bseq));
        inner.bytes += page.broadcasts.iter().map(|entry| tail.push(entry.clone())).sum::<usize>();
        inner.tails.insert(app, tail);
        inner.shrink(self.limit, app);
    }

    pub(super) fn recall(&self, app: AppId, id: MessageId) {
        if let Some(tail) = self.lock().tails.get_mut(&app) {
            tail.entries.iter_mut().filter(|e| e.id == id).for_each(|e| e.recalled = true);
        }
    }

    pub(super) fn head(&self, app: AppId) -> Option<Cursor> {
        self.lock().tails.get(&app).map(|tail| tail.head)
    }

    /// Reads after a number; `None` if the tail does not reach back to it.
    pub(super) fn read(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> Option<BroadcastPage> {
        let inner = self.lock();
        let tail = inner.tails.get(&app)?;
        if after < tail.after {
            return None;
        }
        let mut page = BroadcastPage { through: tail.head.bseq, head: tail.head, ..BroadcastPage::default() };
        let mut bytes = 0;
        let mut read = HashSet::new();
        let first = tail.entries.partition_point(|e| e.place.bseq <= after);
        for entry in tail.entries.range(first..) {
            let alive = entry.is_alive(now_ms);
            // Entries of one broadcast share its payload.
            if alive && read.insert(entry.id) {
                bytes += entry.payload.len();
            }
            let full = page.broadcasts.len() >= max_messages.max(1)
                || (bytes > max_bytes && !page.broadcasts.is_empty());
            if full {
                page.more = true;
                page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
                break;
            }
            let payload = if alive { entry.payload.clone() } else { Bytes::new() };
            page.broadcasts.push(LoggedBroadcast { payload, ..entry.clone() });
        }
        Some(page)
    }
}

impl Inner {
    /// Drops oldest entries: of the app that grew first, then of any.
    fn shrink(&mut self, limit: usize, app: AppId) {
        while self.bytes > limit {
            let own = self.tails.get_mut(&app).filter(|tail| tail.entries.len() > 1);
            let tail = match own {
                Some(tail) => Some(tail),
                None => self.tails.values_mut().find(|tail| !tail.entries.is_empty()),
            };
            let Some(tail) = tail else { return };
            if let Some((entry, bytes)) = tail.pop() {
                tail.after = entry.place.bseq;
                self.bytes -= bytes;
            }
        }
    }
}

/// What an entry costs by itself, without its payload.
fn size(entry: &LoggedBroadcast) -> usize {
    let filter = entry.filter.as_ref().map_or(0, Message::encoded_len);
    entry.audience.len() + filter + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use wire::id::Epoch;

    use super::*;

    const APP: AppId = AppId(1);

    fn at(bseq: u64) -> Cursor {
        Cursor { epoch: Epoch(7), bseq: Bseq(bseq) }
    }

    fn one(bseq: u64) -> LoggedBroadcast {
        LoggedBroadcast {
            place: at(bseq),
            id: MessageId(bseq),
            payload: Bytes::from_static(b"0123456789"),
            audience: String::new(),
            filter: None,
            accepted_ms: 0,
            expires_ms: if bseq == 3 { 5 } else { 100 },
            recalled: false,
        }
    }

    fn alive(page: &BroadcastPage) -> Vec<u64> {
        page.broadcasts.iter().filter(|b| !b.payload.is_empty()).map(|b| b.place.bseq.0).collect()
    }

    fn numbers(page: &BroadcastPage) -> Vec<u64> {
        page.broadcasts.iter().map(|b| b.place.bseq.0).collect()
    }

    #[test]
    fn serves_the_tail_and_sends_the_rest_to_the_archive() {
        let cache = LogCache::new(1 << 20);
        assert!(cache.read(APP, Bseq(0), 9, 999, 0).is_none());
        (2..=5).for_each(|n| cache.append(APP, one(n)));
        assert!(cache.read(APP, Bseq(0), 9, 999, 0).is_none());
        let page = cache.read(APP, Bseq(1), 9, 999, 10).unwrap();
        assert_eq!((alive(&page), page.through, page.more), (vec![2, 4, 5], Bseq(5), false));
        assert_eq!(numbers(&page), [2, 3, 4, 5], "3 is over: it has no payload");
        let page = cache.read(APP, Bseq(1), 3, 999, 10).unwrap();
        assert_eq!((alive(&page), page.through, page.more), (vec![2, 4], Bseq(4), true));
        let page = cache.read(APP, Bseq(1), 9, 1, 10).unwrap();
        assert_eq!((alive(&page), page.more), (vec![2], true));
        cache.recall(APP, MessageId(4));
        let page = cache.read(APP, Bseq(3), 9, 999, 10).unwrap();
        assert_eq!((alive(&page), page.broadcasts[0].recalled), (vec![5], true));
    }

    #[test]
    fn stays_within_its_bound() {
        let cache = LogCache::new(3 * (ENTRY_BYTES + 10));
        (1..=9).for_each(|n| cache.append(APP, one(n)));
        assert!(cache.read(APP, Bseq(5), 9, 999, 0).is_none());
        assert_eq!(numbers(&cache.read(APP, Bseq(6), 9, 999, 0).unwrap()), [7, 8, 9]);
    }

    /// A paced broadcast to everyone is thousands of entries: they must not push all else out of the cache.
    #[test]
    fn slices_share_a_payload() {
        let slice = |n| LoggedBroadcast { id: MessageId(1), payload: vec![1; 1000].into(), ..one(n) };
        let cache = LogCache::new(4 * ENTRY_BYTES + 1000);
        (4..=7).for_each(|n| cache.append(APP, slice(n)));
        let page = cache.read(APP, Bseq(3), 9, 1000, 0).unwrap();
        assert_eq!(numbers(&page), [4, 5, 6, 7]);
        let pointers: HashSet<_> = page.broadcasts.iter().map(|b| b.payload.as_ptr()).collect();
        assert_eq!(pointers.len(), 1);
        cache.recall(APP, MessageId(1));
        assert!(alive(&cache.read(APP, Bseq(3), 9, 1000, 0).unwrap()).is_empty());
        // When the last of them goes, the payload does.
        (8..=30).for_each(|n| cache.append(APP, one(n)));
        let inner = cache.lock();
        assert_eq!(inner.bytes, inner.tails[&APP].entries.len() * (ENTRY_BYTES + 10));
    }

    /// A page that was read before an append and comes in after it would hide that append from all readers.
    #[test]
    fn a_late_page_does_not_replace_a_newer_head() {
        let cache = LogCache::new(1 << 20);
        let page = BroadcastPage { head: at(1), through: Bseq(1), broadcasts: vec![one(1)], more: false };
        cache.append(APP, one(2));
        cache.fill(APP, Bseq(0), &page);
        assert_eq!(cache.head(APP), Some(at(2)));
        let fresh = LogCache::new(1 << 20);
        fresh.fill(APP, Bseq(0), &page);
        fresh.append(APP, one(2));
        assert_eq!(numbers(&fresh.read(APP, Bseq(0), 9, 999, 0).unwrap()), [1, 2]);
    }
}
