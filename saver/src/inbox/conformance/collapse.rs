//! Conflation: a message with a collapse key takes the place of the stored one with the same key.

use super::*;

fn keyed(uid: &str, id: u64, collapse: &str) -> Staging {
    Staging { collapse: Some(collapse.into()), ..staging(uid, id) }
}

fn replaced(rows: impl IntoIterator<Item = i64>) -> Vec<(Row, State)> {
    rows.into_iter().map(|row| (Row(row), State::Replaced)).collect()
}

/// The number of what was replaced holds nothing; all else of the inbox stays, and so do other inboxes.
pub(crate) async fn a_newer_one_replaces<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    bring(&bench, "b", vec![]).await;
    bench.append(vec![keyed("b", 9, "k")]).await;
    bench.append(vec![staging("a", 1), keyed("a", 2, "k"), keyed("a", 3, "other"), staging("a", 4)]).await;
    assert_eq!(bench.left(vec![]).await, []);
    bench.append(vec![keyed("a", 5, "k")]).await;
    assert_eq!(bench.left(vec![]).await, replaced([2]));
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!(ids(&loaded), [1, 3, 4, 5]);
    // In a shared store another inbox may have been given numbers before.
    let first = seqs(&loaded)[0];
    assert_eq!(seqs(&loaded), [first, first + 2, first + 3, first + 4]);
    assert_eq!((loaded.through.0, loaded.more), (first + 4, false));
    let keys: Vec<_> = loaded.messages.iter().map(|m| m.collapse.as_deref()).collect();
    assert_eq!(keys, [None, Some("other"), None, Some("k")]);
    assert!(
        loaded.messages.iter().all(|m| m.payload.as_deref() == Some(format!("payload {}", m.id).as_bytes()))
    );
    assert_eq!(bench.store().depth(&key("a"), NOW).await.unwrap(), 4);
    assert_eq!(ids(&load(&bench, "b", ALL).await), [9]);
    assert_eq!(bench.store().recall(&key("a"), MessageId(2), NOW).await.unwrap(), None);
}

/// In one batch as well; each leaves once.
pub(crate) async fn the_last_of_a_batch_stays<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    bench.append(vec![keyed("a", 1, "k")]).await;
    bench.append((2..=9).map(|id| keyed("a", id, "k")).collect()).await;
    let mut left = bench.left(vec![]).await;
    left.sort_by_key(|(row, _)| row.0);
    assert_eq!(left, replaced(1..=8));
    assert_eq!(ids(&load(&bench, "a", ALL).await), [9]);
    assert_eq!(bench.store().depth(&key("a"), NOW).await.unwrap(), 1);
}

/// What has left the inbox by another way is not replaced.
pub(crate) async fn only_what_is_stored_is_replaced<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    let first = bench.append(vec![keyed("a", 1, "k")]).await;
    assert_eq!(ack(&bench, "a", first[0]).await, [(Row(1), State::Acked)]);
    bench.append(vec![keyed("a", 2, "k")]).await;
    let recalled = bench.store().recall(&key("a"), MessageId(2), NOW).await.unwrap();
    assert_eq!(bench.left(recalled.into_iter().collect()).await, [(Row(2), State::Recalled)]);
    bench.append(vec![Staging { expires_ms: NOW + 1, ..keyed("a", 3, "k") }]).await;
    let over = bench.store().load(&key("a"), ALL, 9, NOW + 1).await.unwrap();
    assert_eq!(bench.left(over.finished).await, [(Row(3), State::Expired)]);
    bench.append(vec![keyed("a", 4, "k")]).await;
    assert_eq!(bench.left(vec![]).await, []);
    // Loaded to the bound: a dead letter.
    for _ in 0..2 {
        bench.store().load(&key("a"), ALL, 2, NOW).await.unwrap();
    }
    let dead = bench.store().load(&key("a"), ALL, 2, NOW).await.unwrap();
    assert_eq!(bench.left(dead.finished).await, [(Row(4), State::MaxLoads)]);
    bench.append(vec![keyed("a", 5, "k")]).await;
    assert_eq!(bench.left(vec![]).await, []);
    assert_eq!(ids(&load(&bench, "a", ALL).await), [5]);
}

/// What is replaced makes room; what a full inbox lets go is not replaced later.
pub(crate) async fn replacing_and_the_cap<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    let capped = |staging| Staging { cap: 2, ..staging };
    bench.append(vec![capped(keyed("a", 1, "k")), capped(staging("a", 2))]).await;
    bench.append(vec![capped(keyed("a", 3, "k"))]).await;
    assert_eq!(bench.left(vec![]).await, replaced([1]));
    assert_eq!(ids(&load(&bench, "a", ALL).await), [2, 3]);
    bench.append(vec![capped(staging("a", 4)), capped(staging("a", 5)), capped(keyed("a", 6, "k"))]).await;
    let mut left = bench.left(vec![]).await;
    left.sort_by_key(|(row, _)| row.0);
    assert_eq!(left, [2, 3, 4].map(|row| (Row(row), State::InboxFull)));
    assert_eq!(ids(&load(&bench, "a", ALL).await), [5, 6]);
}

/// Survivors of another life keep their keys.
pub(crate) async fn survivors_are_replaced<B: Bench>(bench: B) {
    let row = |id, seq, collapse: &str| Surviving {
        collapse: (!collapse.is_empty()).then(|| collapse.into()),
        ..surviving(id, at(3, seq))
    };
    bring(&bench, "a", vec![row(1, 1, "k"), row(2, 2, ""), row(3, 4, "other")]).await;
    let keys = |loaded: &Loaded| loaded.messages.iter().map(|m| m.collapse.clone()).collect::<Vec<_>>();
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!(keys(&loaded), [Some("k".into()), None, Some("other".into())]);
    bench.append(vec![keyed("a", 5, "k")]).await;
    assert_eq!(bench.left(vec![]).await, replaced([1]));
    assert_eq!(ids(&load(&bench, "a", ALL).await), [2, 3, 5]);
    // Who stands in the old epoch is told the same.
    assert_eq!(ids(&load(&bench, "a", after(at(3, 2))).await), [3, 5]);
}

/// Keys of all lengths, and one that looks like another field.
pub(crate) async fn keys_of_all_kinds<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    let names = ["k", "k1", "1", "h", "l1", "ü\u{1F600}", &"x".repeat(64)];
    for (id, name) in (1..).zip(names) {
        bench.append(vec![keyed("a", id, name)]).await;
    }
    load(&bench, "a", ALL).await;
    for (id, name) in (11..).zip(names) {
        bench.append(vec![Staging { payload: Bytes::new(), ..keyed("a", id, name) }]).await;
    }
    assert_eq!(bench.left(vec![]).await, replaced(1..=7));
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!(ids(&loaded), (11..=17).collect::<Vec<_>>());
    let keys: Vec<_> = loaded.messages.iter().filter_map(|m| m.collapse.as_deref()).collect();
    assert_eq!(keys, names);
    assert!(loaded.messages.iter().all(|m| m.payload.as_ref().is_some_and(Bytes::is_empty)));
}
