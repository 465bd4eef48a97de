//! What left the inboxes and the archive has not heard of yet: acks, expiries, cursors.
//!
//! Nobody waits for these to be durable, because losing one only means that a message is offered again. So they are
//! gathered, and ride in the transactions that appends pay for, or in one of their own after a while.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tokio::{sync::Notify, time::Instant};
use wire::id::Cursor;

use crate::model::{Finished, InboxKey};

/// How long a lone ack waits for company.
const LINGER: Duration = Duration::from_millis(25);
/// So many make a good statement; more are written without waiting.
const PLENTY: usize = 512;
/// After a failed write the next waits so long, unless an append tries earlier.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Inner {
    finished: Vec<Finished>,
    cursors: HashMap<InboxKey, Cursor>,
    /// Cursors in the transaction that is under way.
    writing: HashMap<InboxKey, Cursor>,
    /// When the oldest came.
    since: Option<Instant>,
    not_before: Option<Instant>,
}

impl Inner {
    fn len(&self) -> usize {
        self.finished.len() + self.cursors.len()
    }
}

/// The backlog. Memory at worst: 64 B for each of `limit`.
#[derive(Debug)]
pub(super) struct Backlog {
    inner: Mutex<Inner>,
    changed: Notify,
    limit: usize,
}

/// A part of the backlog on its way into a transaction.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) finished: Vec<Finished>,
    pub(super) cursors: Vec<(InboxKey, Cursor)>,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), changed: Notify::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether more may come. To be asked before anything is taken out of an inbox.
    pub(super) fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    pub(super) fn push(&self, finished: Vec<Finished>, cursors: Vec<(InboxKey, Cursor)>) {
        if finished.is_empty() && cursors.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let before = inner.len();
        inner.finished.extend(finished);
        for (key, cursor) in cursors {
            inner.cursors.entry(key).and_modify(|kept| *kept = later(*kept, cursor)).or_insert(cursor);
        }
        inner.since.get_or_insert_with(Instant::now);
        let crossed = before < PLENTY && inner.len() >= PLENTY;
        drop(inner);
        if before == 0 || crossed {
            self.changed.notify_one();
        }
    }

    /// The cursors of these users that the archive may not have yet. To be asked before the archive is: what leaves here
    /// in between is there by then.
    pub(super) fn cursors(&self, keys: &[InboxKey]) -> Vec<Option<Cursor>> {
        let inner = self.lock();
        let find = |key| match (inner.cursors.get(key), inner.writing.get(key)) {
            (Some(waiting), Some(writing)) => Some(later(*waiting, *writing)),
            (waiting, writing) => waiting.or(writing).copied(),
        };
        keys.iter().map(find).collect()
    }

    /// What was taken last has been written.
    pub(super) fn written(&self) {
        self.lock().writing.clear();
    }

    /// Puts back what could not be written.
    pub(super) fn put_back(&self, taken: Taken) {
        {
            let mut inner = self.lock();
            inner.writing.clear();
            inner.not_before = Some(Instant::now() + PAUSE);
            // Newer cursors of the same users are there already.
            for (key, cursor) in taken.cursors {
                inner.cursors.entry(key).and_modify(|kept| *kept = later(*kept, cursor)).or_insert(cursor);
            }
            if !taken.finished.is_empty() {
                let newer = std::mem::replace(&mut inner.finished, taken.finished);
                inner.finished.extend(newer);
            }
            inner.since.get_or_insert_with(Instant::now);
        }
        self.changed.notify_one();
    }

    /// Takes the oldest `max`, if they have waited long enough or are plenty, or `now`.
    pub(super) fn take(&self, max: usize, now: bool) -> Taken {
        let mut inner = self.lock();
        if !(now || inner.ripe()) {
            return Taken::default();
        }
        let part = inner.finished.len().min(max);
        let rest = inner.finished.split_off(part);
        let finished = std::mem::replace(&mut inner.finished, rest);
        let cursors: Vec<(InboxKey, Cursor)> = if inner.cursors.len() <= max {
            inner.cursors.drain().collect()
        } else {
            let keys: Vec<InboxKey> = inner.cursors.keys().take(max).cloned().collect();
            keys.into_iter().filter_map(|key| inner.cursors.remove_entry(&key)).collect()
        };
        inner.writing.extend(cursors.iter().cloned());
        inner.since = (inner.len() > 0).then(Instant::now);
        inner.not_before = None;
        Taken { finished, cursors }
    }

    /// Waits until something should be written even if nobody appends.
    pub(super) async fn due(&self) {
        loop {
            let changed = self.changed.notified();
            let at = {
                let inner = self.lock();
                if inner.ripe() {
                    return;
                }
                let linger = inner.since.map(|since| since + LINGER);
                linger.map(|at| inner.not_before.map_or(at, |pause| at.max(pause)))
            };
            match at {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }
}

impl Inner {
    fn ripe(&self) -> bool {
        let now = Instant::now();
        let paused = self.not_before.is_some_and(|at| now < at);
        let waited = self.since.is_some_and(|since| now >= since + LINGER);
        !paused && (self.len() >= PLENTY || waited)
    }
}

/// The further of two cursors.
pub(super) fn later(a: Cursor, b: Cursor) -> Cursor {
    if (b.epoch, b.bseq) > (a.epoch, a.bseq) { b } else { a }
}

#[cfg(test)]
mod tests {
    use wire::id::{AppId, Bseq, Epoch, Uid};

    use super::*;
    use crate::model::{Row, State};

    fn finished(n: i64) -> Finished {
        let key = InboxKey::new(AppId(1), Uid::new("alice").unwrap());
        Finished { key, row: Row(n), state: State::Acked }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_company_but_not_for_long() {
        let backlog = Backlog::new(10_000);
        let begun = Instant::now();
        backlog.push(vec![finished(1)], vec![]);
        assert!(backlog.take(100, false).finished.is_empty());
        backlog.due().await;
        assert_eq!(begun.elapsed().as_millis(), LINGER.as_millis());
        backlog.push((2..600).map(finished).collect(), vec![]);
        backlog.due().await;
        assert_eq!(backlog.take(100, false).finished.len(), 100);
        assert_eq!(backlog.len(), 499);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_pauses_and_keeps_the_order() {
        let backlog = Backlog::new(2);
        backlog.push(vec![finished(1), finished(2)], vec![]);
        assert!(!backlog.has_room());
        let taken = backlog.take(1, true);
        backlog.put_back(taken);
        let begun = Instant::now();
        backlog.due().await;
        assert!(begun.elapsed() >= PAUSE - LINGER);
        let rows: Vec<_> = backlog.take(9, true).finished.iter().map(|f| f.row).collect();
        assert_eq!(rows, [Row(1), Row(2)]);
    }

    #[tokio::test]
    async fn cursors_only_move_forward() {
        let backlog = Backlog::new(9);
        let key = finished(1).key;
        let at = |bseq| Cursor { epoch: Epoch(1), bseq: Bseq(bseq) };
        backlog.push(vec![], vec![(key.clone(), at(5))]);
        backlog.push(vec![], vec![(key.clone(), at(3))]);
        assert_eq!(backlog.take(9, true).cursors, [(key, at(5))]);
    }

    /// A user who came back within 25 ms, without a place of its own, was offered broadcasts again that it had acked.
    #[tokio::test]
    async fn cursors_are_known_before_they_are_written() {
        let backlog = Backlog::new(9);
        let keys = [finished(1).key];
        let at = |bseq| Cursor { epoch: Epoch(1), bseq: Bseq(bseq) };
        assert_eq!(backlog.cursors(&keys), [None]);
        backlog.push(vec![], vec![(keys[0].clone(), at(3))]);
        assert_eq!(backlog.cursors(&keys), [Some(at(3))]);
        let taken = backlog.take(9, true);
        assert_eq!(backlog.cursors(&keys), [Some(at(3))], "while it is being written");
        backlog.push(vec![], vec![(keys[0].clone(), at(5))]);
        assert_eq!(backlog.cursors(&keys), [Some(at(5))]);
        backlog.put_back(taken);
        assert_eq!(backlog.take(9, true).cursors, [(keys[0].clone(), at(5))]);
        backlog.written();
        assert_eq!(backlog.cursors(&keys), [None], "the archive has it");
    }
}
