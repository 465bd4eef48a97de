//! The in-process store: what every store does, and its own bounds.

use wire::id::Epoch;

use super::*;
use crate::{
    inbox::{
        InboxError,
        conformance::{self, at, key, seqs, staging},
    },
    model::Staging,
};

const ROOMY: MemoryLimits =
    MemoryLimits { inboxes: 16_000, messages: 16_000, payload_bytes: 1 << 20, idle_s: 60 };
const READ: Read = Read { after: None, acknowledges: false, max_messages: 100, max_bytes: 1 << 20 };

fn make(epoch: Epoch) -> MemoryInboxes {
    MemoryInboxes::new(epoch, ROOMY)
}

conformance::suite!(make);

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
    let store = make(Epoch(5));
    bring(&store, "a").await.unwrap();
    for id in 1..=3 {
        append(&store, staging("a", id)).await;
    }
    let finished = store.ack(&key("a"), at(5, 3), 0).await.unwrap();
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
    let store = make(Epoch(5));
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
    store.ack(&key("a"), at(5, 9), 0).await.unwrap();
    assert_eq!(store.resident(), Resident { inboxes: 1, messages: 0, payload_bytes: 0 });
}
