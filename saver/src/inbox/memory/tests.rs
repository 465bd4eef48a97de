//! The in-process store: what every store does, and its own bounds.

use wire::id::{Epoch, Seq};

use super::*;
use crate::{
    inbox::{
        InboxError,
        conformance::{self, at, key, seqs, staging},
    },
    model::{Row, Staging, State},
};

const NOW: u64 = 1_000_000;

const ROOMY: MemoryLimits =
    MemoryLimits { inboxes: 16_000, messages: 16_000, payload_bytes: 1 << 20, idle_s: 60 };
const READ: Read = Read { after: None, acknowledges: false, max_messages: 100, max_bytes: 1 << 20 };

/// The store, and what it has pushed out.
struct Through(MemoryInboxes, std::sync::Mutex<Vec<(Row, State)>>);

async fn make(epoch: Epoch) -> Through {
    Through(MemoryInboxes::new(epoch, ROOMY), std::sync::Mutex::default())
}

conformance::suite!(make);

impl conformance::Bench for Through {
    type Store = MemoryInboxes;

    fn store(&self) -> &MemoryInboxes {
        &self.0
    }

    async fn append(&self, items: Vec<Staging>) -> Vec<Position> {
        let staged = stage(&self.0, items).await;
        self.0.publish(&staged, NOW).await.unwrap();
        let pushed = staged.iter().flat_map(|s| s.pushed_out.iter().copied());
        self.1.lock().unwrap().extend(pushed);
        staged.iter().map(|s| s.position).collect()
    }

    async fn left(&self, told: Vec<Finished>) -> Vec<(Row, State)> {
        self.0.settle(&told).await.unwrap();
        let pushed = std::mem::take(&mut *self.1.lock().unwrap());
        pushed.into_iter().chain(told.into_iter().map(|f| (f.row, f.state))).collect()
    }

    fn follows(&self, last: u64) -> u64 {
        last + 1
    }

    async fn restart(&self, epoch: Epoch) {
        self.0.restart(epoch).await.unwrap();
    }
}

async fn stage(store: &MemoryInboxes, items: Vec<Staging>) -> Vec<Staged> {
    store.stage(&items, NOW).await.unwrap().into_iter().map(Result::unwrap).collect()
}

async fn numbers(store: &MemoryInboxes) -> Vec<u64> {
    seqs(&store.load(&key("a"), READ, 99, NOW).await.unwrap())
}

/// Nobody can write to an inbox that was never brought up.
#[tokio::test]
async fn an_absent_inbox_is_not_staged_to() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    let staged = store.stage(&[staging("a", 1)], NOW).await.unwrap();
    assert!(matches!(staged[0], Err(InboxError::Absent)));
}

/// What is staged is seen by nobody: neither by a load nor in the depth, and no ack covers it.
#[tokio::test]
async fn staged_is_invisible() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    bring(&store, "a").await.unwrap();
    let staged = stage(&store, vec![staging("a", 1)]).await;
    let loaded = store.load(&key("a"), READ, 99, NOW).await.unwrap();
    assert_eq!((seqs(&loaded), loaded.through), (vec![], Seq(0)));
    assert_eq!(store.depth(&key("a"), NOW).await.unwrap(), 0);
    assert_eq!(store.ack(&[(key("a"), at(5, 9))], NOW).await.unwrap(), [Ok(vec![])]);
    assert_eq!(store.waiting(&key("a"), NOW).await.unwrap(), None);
    store.publish(&staged, NOW).await.unwrap();
    assert_eq!(numbers(&store).await, [1]);
}

/// A withdrawn number is never given again: it may have been written after all.
#[tokio::test]
async fn withdrawn_numbers_stay_unused() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    bring(&store, "a").await.unwrap();
    append(&store, staging("a", 1)).await;
    let staged = stage(&store, vec![staging("a", 2), staging("a", 3)]).await;
    store.withdraw(&staged).await.unwrap();
    let loaded = store.load(&key("a"), READ, 99, NOW).await.unwrap();
    assert_eq!((seqs(&loaded), loaded.through), (vec![1], Seq(1)));
    append(&store, staging("a", 4)).await;
    let after = Read { after: Some(at(5, 1)), ..READ };
    let loaded = store.load(&key("a"), after, 99, NOW).await.unwrap();
    assert_eq!((loaded.messages[0].id.0, seqs(&loaded), loaded.start), (4, vec![4], at(5, 1)));
}

/// The oldest make room only once the archive knows; a withdrawn batch pushes nothing out.
#[tokio::test]
async fn a_withdrawn_batch_pushes_nothing_out() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    bring(&store, "a").await.unwrap();
    let capped = |id| Staging { cap: 2, ..staging("a", id) };
    let staged = stage(&store, vec![capped(1), capped(2)]).await;
    store.publish(&staged, NOW).await.unwrap();
    let staged = stage(&store, vec![capped(3)]).await;
    assert_eq!(staged[0].pushed_out, [(Row(1), State::InboxFull)]);
    assert_eq!(numbers(&store).await, [1, 2]);
    store.withdraw(&staged).await.unwrap();
    assert_eq!(numbers(&store).await, [1, 2]);
    // Three at once push out two, and the first of themselves.
    let staged = stage(&store, vec![capped(4), capped(5), capped(6)]).await;
    let out: Vec<_> = staged.iter().flat_map(|s| s.pushed_out.clone()).collect();
    assert_eq!(out, [1, 2, 4].map(|row| (Row(row), State::InboxFull)));
}

async fn bring(store: &MemoryInboxes, uid: &str) -> InboxResult<()> {
    let absent = store.absent(&[key(uid)]).await.unwrap();
    store.rebuild(&absent[0], vec![], 0).await
}

async fn append(store: &MemoryInboxes, item: Staging) -> Position {
    let staged = store.stage(&[item], 0).await.unwrap().remove(0).unwrap();
    store.publish(std::slice::from_ref(&staged), 0).await.unwrap();
    staged.position
}

async fn idle(store: &MemoryInboxes, now_ms: u64) -> usize {
    let mut evicted = 0;
    for _ in 0..SHARDS {
        evicted += store.upkeep(now_ms).await.unwrap().evicted;
    }
    evicted
}

/// A number that was given before the inbox was let go must not be given again after, though the archive has no
/// trace of it: a device that saw it would take the new message for the old one.
#[tokio::test]
async fn numbers_go_on_after_an_eviction() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    bring(&store, "a").await.unwrap();
    for id in 1..=3 {
        append(&store, staging("a", id)).await;
    }
    let finished = store.ack(&[(key("a"), at(5, 3))], 0).await.unwrap().remove(0).unwrap();
    assert_eq!(idle(&store, 3_600_000).await, 0, "the archive has not heard of the acks yet");
    store.settle(&finished).await.unwrap();
    assert_eq!(idle(&store, 3_600_000).await, 1);
    bring(&store, "a").await.unwrap();
    assert_eq!(append(&store, staging("a", 4)).await, at(5, 4));
}

/// A rebuild that read the archive before the inbox was rebuilt, written and let go by others would lose what they
/// wrote.
#[tokio::test]
async fn a_rebuild_that_was_overtaken_is_turned_away() {
    let store = MemoryInboxes::new(Epoch(5), ROOMY);
    let stale = store.absent(&[key("a")]).await.unwrap();
    bring(&store, "a").await.unwrap();
    append(&store, staging("a", 1)).await;
    assert_eq!(idle(&store, 3_600_000).await, 1);
    store.rebuild(&stale[0], vec![], 0).await.unwrap();
    assert_eq!(store.absent(&[key("a")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_pinned_stays_and_a_full_store_says_so() {
    let store = MemoryInboxes::new(Epoch(5), MemoryLimits { inboxes: SHARDS, messages: SHARDS, ..ROOMY });
    let mut held = Vec::new();
    let mut refused = 0;
    for n in 0..500 {
        let uid = format!("u{n}");
        match bring(&store, &uid).await {
            Ok(()) => held.push(store.stage(&[staging(&uid, n + 1)], 0).await.unwrap().remove(0)),
            Err(e) => {
                assert_eq!(e, InboxError::Full);
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (SHARDS, 500 - SHARDS));
    assert_eq!(store.resident().messages, SHARDS);
    // Once published they may go, and others come.
    let staged: Vec<_> = held.into_iter().map(Result::unwrap).collect();
    store.publish(&staged, 0).await.unwrap();
    for n in 500..1000 {
        bring(&store, &format!("u{n}")).await.unwrap();
    }
    assert!(store.resident().inboxes <= SHARDS);
}

/// Payloads beyond the bound are not held; the messages are.
#[tokio::test]
async fn payloads_stay_within_their_bound() {
    let store = MemoryInboxes::new(Epoch(5), MemoryLimits { payload_bytes: 16 * 20, ..ROOMY });
    bring(&store, "a").await.unwrap();
    for id in 1..=9 {
        append(&store, staging("a", id)).await;
    }
    let loaded = store.load(&key("a"), READ, 9, 0).await.unwrap();
    assert_eq!(seqs(&loaded), (1..=9).collect::<Vec<_>>());
    assert_eq!(loaded.messages.iter().filter(|m| m.payload.is_some()).count(), 2);
    assert_eq!(store.resident().payload_bytes, 18);
    store.ack(&[(key("a"), at(5, 9))], 0).await.unwrap();
    assert_eq!(store.resident(), Resident { inboxes: 1, messages: 0, payload_bytes: 0 });
}
