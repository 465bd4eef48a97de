//! What the engine does when something is full, or fails.

use wire::id::{Position, Seq};

use super::{tests::*, *};
use crate::{archive::ArchiveError, inbox::memory::MemoryLimits, model::Read};

/// When the disk is full callers are told so, readers see nothing of what was refused, acks wait, and when there is
/// room again everything goes on in order.
#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let rig = Rig::new().await;
    let first = rig.push(1, "a").await.unwrap();
    rig.disk(Some(1)).await;
    let big = Append { payload: vec![1; 300_000].into(), ..append(2, &["a"]) };
    let refused = rig.engine.append(vec![big.clone()]).await.remove(0).unwrap_err();
    assert_eq!((refused.code(), refused.retry_after_ms()), ("archive_full", Some(5000)));
    assert_eq!(rig.ids("a").await, [1]);
    rig.ack("a", first.positions[0]).await;
    rig.disk(None).await;
    let stored = rig.engine.append(vec![big]).await.remove(0).unwrap();
    assert!(stored.positions[0].seq > Seq(1) && !stored.repeated);
    assert_eq!(rig.ids("a").await, [2]);
    assert_eq!(counts(&rig.ledger(1).await), [1, 1, 0, 0, 0, 0]);
}

/// A commit that failed and yet was done (the disk failed between writing and answering): the repeat of the append
/// finds it recorded, so it must be in the inbox too, or it would be durable and never delivered.
#[tokio::test]
async fn a_commit_in_doubt_is_found_out() {
    let rig = Rig::new().await;
    rig.push(1, "a").await.unwrap();
    let last = rig.push(2, "b").await.unwrap();
    let epoch = last.positions[0].epoch;
    let lost = ArchiveError::Io("the disk went away".to_owned());
    *rig.fault.lock().unwrap() = Some((true, lost.clone()));
    assert_eq!(rig.push(3, "a").await, Err(Refused::Archive(lost.clone())));
    assert_eq!(rig.ids("a").await, [1]);
    rig.ack("b", last.positions[0]).await;
    let again = rig.push(3, "a").await.unwrap();
    assert!(again.repeated);
    assert_eq!(rig.ids("a").await, [1, 3]);
    assert!(rig.ids("b").await.is_empty());
    let loaded = rig.load("a", Read { after: Some(Position { epoch, seq: Seq(1) }), ..ALL }).await.inbox;
    assert!(loaded.start.epoch > epoch && loaded.messages.len() == 1);
    // The same, but it was not done.
    *rig.fault.lock().unwrap() = Some((false, lost));
    assert!(rig.push(4, "a").await.is_err());
    assert!(!rig.push(4, "a").await.unwrap().repeated);
    assert_eq!(rig.ids("a").await, [1, 3, 4]);
}

#[tokio::test]
async fn full_queues_refuse() {
    let limits = Limits { backlog: 1, queue_messages: 2, ..Limits::default() };
    let rig = Rig::with(ROOMY, limits).await;
    let calls = (0..50).map(|n| {
        let engine = rig.engine.clone();
        async move { engine.append(vec![append(2 * n + 1, &["a"]), append(2 * n + 2, &["b"])]).await }
    });
    let results: Vec<_> = futures::future::join_all(calls).await.into_iter().flatten().collect();
    assert!(results.iter().any(|r| r.is_ok()));
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.code() == "busy"));
    let stored = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(rig.ids("a").await.len() + rig.ids("b").await.len(), stored);
    assert_eq!(rig.engine.waiting().0, 0);
    let last = rig.load("a", ALL).await.inbox.through;
    let epoch = rig.engine.inboxes().epoch();
    rig.ack("a", Position { epoch, seq: last }).await;
    let item = AckItem {
        key: key("b"),
        inbox: Some(Position { epoch, seq: Seq(1) }),
        cursor: None,
        credits: Vec::new(),
    };
    assert_eq!(rig.engine.ack(vec![item]).await, Err(Refused::Busy));
}

/// Far more users than fit into memory: everything is found again in the archive.
#[tokio::test]
async fn memory_is_bounded_and_nothing_is_lost() {
    let memory = MemoryLimits { inboxes: 320, messages: 640, payload_bytes: 0, idle_s: 60 };
    let rig = Rig::with(memory, Limits::default()).await;
    for round in 0..3u64 {
        for part in 0..10u64 {
            let items = (0..50).map(|n| {
                let user = part * 50 + n;
                append(1 + round * 500 + user, &[&format!("u{user}")])
            });
            let results = rig.engine.append(items.collect()).await;
            assert!(results.iter().all(|r| r.is_ok()), "{results:?}");
        }
    }
    assert!(rig.engine.inboxes().resident().messages <= 640);
    for user in (0..500).step_by(7) {
        let loaded = rig.load(&format!("u{user}"), ALL).await.inbox;
        assert_eq!(loaded.messages.len(), 3, "u{user}");
        assert!(loaded.messages.is_sorted_by(|a, b| a.seq < b.seq && a.id < b.id));
        assert!(loaded.messages.iter().all(|m| m.payload.is_some()));
    }
}

/// A message is stored for all receivers of a call or for none; others in the transaction do not suffer.
#[tokio::test]
async fn a_multicast_that_finds_no_room_leaves_nothing() {
    let memory = MemoryLimits { inboxes: 64, messages: 64, payload_bytes: 0, idle_s: 60 };
    let rig = Rig::with(memory, Limits::default()).await;
    let names: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    let items = vec![append(1, &["a"]), append(2, &many), append(2, &many), append(3, &["a"])];
    let results = rig.engine.append(items).await;
    assert!(results[1..3].iter().all(|r| r.as_ref().unwrap_err().code() == "busy"), "{results:?}");
    assert!(!rig.ledger(2).await.found);
    assert!(rig.ids("u7").await.is_empty());
    let stored: Vec<u64> =
        [(1, 0), (3, 3)].into_iter().filter(|(_, at)| results[*at].is_ok()).map(|(n, _)| n).collect();
    assert_eq!(rig.ids("a").await, stored);
    rig.push(4, "a").await.unwrap();
}
