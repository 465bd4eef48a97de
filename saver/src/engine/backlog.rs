//! What left the inboxes and the archive has not heard of yet: acks, expiries, cursors.
//!
//! Nobody waits for these to be durable, because losing one only means that a message is offered again. So they are
//! gathered, and ride in the transactions that appends pay for, or in one of their own after a while. Only who counts
//! broadcasts with a cursor waits: what is not told again would be missing in the ledger.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::{HashMap, hash_map::Entry};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use wire::id::Cursor;

use crate::{
    archive::{Credit, Passed, is_before},
    error::Refused,
    model::{Finished, InboxKey},
};

/// How long a lone ack waits for company.
const LINGER: Duration = Duration::from_millis(25);
/// So many make a good statement; more are written without waiting.
const PLENTY: usize = 512;
/// After a failed write the next waits so long, unless an append tries earlier.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Inner {
    finished: Vec<Finished>,
    cursors: HashMap<InboxKey, Moved>,
    /// Of all cursors.
    credits: usize,
    /// Cursors in the transaction that is under way.
    writing: HashMap<InboxKey, Cursor>,
    /// When the oldest came.
    since: Option<Instant>,
    not_before: Option<Instant>,
    /// Nobody writes any more.
    closed: bool,
}

impl Inner {
    fn len(&self) -> usize {
        self.finished.len() + self.cursors.len() + self.credits
    }

    /// Notes a cursor, together with what is noted of the same user.
    fn note(&mut self, key: InboxKey, moved: Moved) {
        self.credits += moved.credits.len();
        match self.cursors.entry(key) {
            Entry::Vacant(place) => _ = place.insert(moved),
            Entry::Occupied(mut place) => {
                let before = place.get().credits.len() + moved.credits.len();
                place.get_mut().join(moved);
                self.credits -= before - place.get().credits.len();
            }
        }
    }
}

/// Where a user's cursor moves.
#[derive(Debug)]
struct Moved {
    cursor: Cursor,
    /// What it passes, each entry once.
    credits: Vec<Credit>,
    /// Held until it is written; told if it was not.
    waiting: Vec<Waiting>,
}

impl Moved {
    /// Both together. Entries of an older log than the further cursor's count nothing any more.
    fn join(&mut self, other: Self) {
        let (mut first, mut then) = (std::mem::take(&mut self.credits), other.credits);
        if self.cursor.epoch < other.cursor.epoch {
            first.clear();
        } else if other.cursor.epoch < self.cursor.epoch {
            then.clear();
        }
        first.extend(then);
        first.sort_by_key(|credit| credit.bseq);
        first.dedup_by_key(|credit| credit.bseq);
        self.credits = first;
        self.cursor = later(self.cursor, other.cursor);
        self.waiting.extend(other.waiting);
    }
}

/// Whoever waits for a cursor to be written learns it when all of these are gone.
type Waiting = mpsc::Sender<Refused>;

/// The end of a wait.
#[derive(Debug)]
pub(super) struct Receipt(mpsc::Receiver<Refused>);

impl Receipt {
    /// Waits until the archive has all of it.
    ///
    /// # Errors
    /// When it did not take a part of it, which will be tried again.
    pub(super) async fn written(mut self) -> Result<(), Refused> {
        self.0.recv().await.map_or(Ok(()), Err)
    }
}

/// The backlog. Memory at worst: 100 B for each of `limit`.
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
    /// Cursors that count nothing.
    pub(super) cursors: Vec<(InboxKey, Cursor)>,
    /// Those that count something.
    pub(super) passed: Vec<Passed>,
    waiting: Vec<Vec<Waiting>>,
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
            inner.note(key, Moved { cursor, credits: Vec::new(), waiting: Vec::new() });
        }
        inner.since.get_or_insert_with(Instant::now);
        let crossed = before < PLENTY && inner.len() >= PLENTY;
        drop(inner);
        if before == 0 || crossed {
            self.changed.notify_one();
        }
    }

    /// Takes cursors that count broadcasts; the answer is when the archive has them.
    pub(super) fn pass(&self, list: Vec<Passed>) -> Receipt {
        let (waiting, receipt) = mpsc::channel(1);
        if list.is_empty() {
            return Receipt(receipt);
        }
        let mut inner = self.lock();
        if inner.closed {
            let _ = waiting.try_send(Refused::Ending);
            return Receipt(receipt);
        }
        let before = inner.len();
        for Passed { key, cursor, mut credits } in list {
            credits.sort_by_key(|credit| credit.bseq);
            credits.dedup_by_key(|credit| credit.bseq);
            inner.note(key, Moved { cursor, credits, waiting: vec![waiting.clone()] });
        }
        inner.since.get_or_insert_with(Instant::now);
        let crossed = before < PLENTY && inner.len() >= PLENTY;
        drop(inner);
        if before == 0 || crossed {
            self.changed.notify_one();
        }
        Receipt(receipt)
    }

    /// Nobody writes any more: whoever waits is told, and whoever comes.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for waiting in inner.cursors.values_mut().flat_map(|moved| std::mem::take(&mut moved.waiting)) {
            let _ = waiting.try_send(Refused::Ending);
        }
    }

    /// Whether cursors of any of these users wait that count broadcasts. Until they are written, what they count hangs
    /// on whoever sent them.
    pub(super) fn counts_for(&self, keys: &[InboxKey]) -> bool {
        let inner = self.lock();
        let counts = |key| inner.cursors.get(key).is_some_and(|moved| !moved.credits.is_empty());
        inner.credits > 0 && keys.iter().any(counts)
    }

    /// The cursors of these users that the archive may not have yet. To be asked before the archive is: what leaves here
    /// in between is there by then.
    pub(super) fn cursors(&self, keys: &[InboxKey]) -> Vec<Option<Cursor>> {
        let inner = self.lock();
        let find = |key| match (inner.cursors.get(key), inner.writing.get(key)) {
            (Some(waiting), Some(writing)) => Some(later(waiting.cursor, *writing)),
            (waiting, writing) => waiting.map(|moved| moved.cursor).or(writing.copied()),
        };
        keys.iter().map(find).collect()
    }

    /// What was taken last has been written.
    pub(super) fn written(&self) {
        self.lock().writing.clear();
    }

    /// Puts back what could not be written, and tells who waits for it.
    pub(super) fn put_back(&self, taken: Taken, refused: &Refused) {
        {
            let mut inner = self.lock();
            inner.writing.clear();
            inner.not_before = Some(Instant::now() + PAUSE);
            // Newer cursors of the same users are there already.
            let plain = taken.cursors.into_iter().map(|(key, cursor)| (key, cursor, Vec::new()));
            let counting = taken.passed.into_iter().map(|p| (p.key, p.cursor, p.credits));
            for (key, cursor, credits) in plain.chain(counting) {
                inner.note(key, Moved { cursor, credits, waiting: Vec::new() });
            }
            if !taken.finished.is_empty() {
                let newer = std::mem::replace(&mut inner.finished, taken.finished);
                inner.finished.extend(newer);
            }
            inner.since.get_or_insert_with(Instant::now);
        }
        for waiting in taken.waiting.iter().flatten() {
            // It is full if the same call was told already.
            let _ = waiting.try_send(refused.clone());
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
        let moved: Vec<(InboxKey, Moved)> = if inner.cursors.len() + inner.credits <= max {
            inner.cursors.drain().collect()
        } else {
            let mut room = max;
            let fits = |(_, moved): &(&InboxKey, &Moved)| {
                let some = room > 0;
                room = room.saturating_sub(1 + moved.credits.len());
                some
            };
            let keys: Vec<InboxKey> =
                inner.cursors.iter().take_while(fits).map(|(key, _)| key.clone()).collect();
            keys.into_iter().filter_map(|key| inner.cursors.remove_entry(&key)).collect()
        };
        let mut taken = Taken { finished, ..Taken::default() };
        for (key, Moved { cursor, credits, waiting }) in moved {
            inner.writing.insert(key.clone(), cursor);
            inner.credits -= credits.len();
            if credits.is_empty() {
                taken.cursors.push((key, cursor));
            } else {
                taken.passed.push(Passed { key, cursor, credits });
            }
            if !waiting.is_empty() {
                taken.waiting.push(waiting);
            }
        }
        inner.since = (inner.len() > 0).then(Instant::now);
        inner.not_before = None;
        taken
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
    if is_before(a, b) { b } else { a }
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
        backlog.put_back(taken, &Refused::Busy);
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
        backlog.put_back(taken, &Refused::Busy);
        assert_eq!(backlog.take(9, true).cursors, [(keys[0].clone(), at(5))]);
        backlog.written();
        assert_eq!(backlog.cursors(&keys), [None], "the archive has it");
    }
}
