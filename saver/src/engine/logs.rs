//! Tails of the broadcast logs, so that a storm of readers is not a storm on the archive.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use wire::id::{AppId, Bseq, Cursor, MessageId};

use crate::archive::{BroadcastPage, LoggedBroadcast};

/// What a cached broadcast costs besides its payload and audience.
const ENTRY_BYTES: usize = 160;

#[derive(Debug)]
struct Tail {
    head: Cursor,
    /// The tail holds everything after this number, save for what is recalled or over.
    after: Bseq,
    entries: VecDeque<LoggedBroadcast>,
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
        let tail = inner.tails.entry(app).or_insert_with(|| Tail {
            head: Cursor { epoch: place.epoch, bseq: before },
            after: before,
            entries: VecDeque::new(),
        });
        if place.bseq <= tail.head.bseq {
            return;
        }
        let mut dropped = 0;
        if tail.head.bseq != before {
            // Another process has written to the log: what is known is not its tail any more.
            dropped = tail.entries.drain(..).map(|e| size(&e)).sum();
            tail.after = before;
        }
        tail.head = place;
        let bytes = size(&broadcast);
        tail.entries.push_back(broadcast);
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
        inner.bytes += page.broadcasts.iter().map(size).sum::<usize>();
        let entries = page.broadcasts.iter().cloned().collect();
        let after = after.min(page.head.bseq);
        inner.tails.insert(app, Tail { head: page.head, after, entries });
        inner.shrink(self.limit, app);
    }

    pub(super) fn recall(&self, app: AppId, id: MessageId) {
        if let Some(tail) = self.lock().tails.get_mut(&app)
            && let Some(entry) = tail.entries.iter_mut().find(|e| e.id == id)
        {
            entry.recalled = true;
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
        let first = tail.entries.partition_point(|e| e.place.bseq <= after);
        for entry in tail.entries.range(first..).filter(|e| !e.recalled && e.expires_ms > now_ms) {
            bytes += entry.payload.len();
            let full = page.broadcasts.len() >= max_messages.max(1)
                || (bytes > max_bytes && !page.broadcasts.is_empty());
            if full {
                page.more = true;
                page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
                break;
            }
            page.broadcasts.push(entry.clone());
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
            if let Some(entry) = tail.entries.pop_front() {
                tail.after = entry.place.bseq;
                self.bytes -= size(&entry);
            }
        }
    }
}

fn size(broadcast: &LoggedBroadcast) -> usize {
    broadcast.payload.len() + broadcast.audience.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
            accepted_ms: 0,
            expires_ms: if bseq == 3 { 5 } else { 100 },
            recalled: false,
        }
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
        assert_eq!((numbers(&page), page.through, page.more), (vec![2, 4, 5], Bseq(5), false));
        let page = cache.read(APP, Bseq(1), 2, 999, 10).unwrap();
        assert_eq!((numbers(&page), page.through, page.more), (vec![2, 4], Bseq(4), true));
        let page = cache.read(APP, Bseq(1), 9, 1, 10).unwrap();
        assert_eq!((numbers(&page), page.more), (vec![2], true));
        cache.recall(APP, MessageId(4));
        assert_eq!(numbers(&cache.read(APP, Bseq(3), 9, 999, 10).unwrap()), [5]);
    }

    #[test]
    fn stays_within_its_bound() {
        let cache = LogCache::new(3 * (ENTRY_BYTES + 10));
        (1..=9).for_each(|n| cache.append(APP, one(n)));
        assert!(cache.read(APP, Bseq(5), 9, 999, 0).is_none());
        assert_eq!(numbers(&cache.read(APP, Bseq(6), 9, 999, 0).unwrap()), [7, 8, 9]);
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
