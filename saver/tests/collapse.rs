//! Conflation on a real Redis and a real MariaDB, with faults.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod shared;

use saver::{
    engine::{Append, Durability},
    inbox::InboxStore as _,
    model::State,
};
use shared::{APP, Saver, Servers, append, eventually, id};
use stores::Data;
use wire::id::MessageId;

fn keyed(n: u64, uids: &[&str], durability: Durability) -> Append {
    Append { collapse: Some("k".into()), durability: Some(durability), ..append(n, uids) }
}

/// What became of a message's deliveries: stored and replaced.
async fn fate(saver: &Saver, n: u64) -> (u64, u64) {
    let ledger = saver.ledger(n).await;
    let dropped = ledger.dropped.get("replaced").copied().unwrap_or(0);
    let sum = ledger.acked + ledger.stored + ledger.expired + ledger.recalled;
    assert_eq!(ledger.targets, sum + ledger.dropped.values().sum::<u64>());
    (ledger.stored, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_stays_so_when_redis_loses_all() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    for (base, class) in [(10, Durability::Fast), (20, Durability::Safe)] {
        let uid = format!("user-{base}");
        for n in 1..=3 {
            saver.push(keyed(base + n, &[&uid], class)).await.unwrap();
            saver.push(append(base + n + 5, &[&uid])).await.unwrap();
        }
        assert_eq!(saver.ids(&uid).await, [6, 7, 3, 8].map(|n| base + n));
        assert_eq!([fate(&saver, base + 1).await, fate(&saver, base + 3).await], [(0, 1), (1, 0)]);
    }
    // To many, each of whom has another.
    saver.push(keyed(40, &["a", "b"], Durability::Safe)).await.unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    saver.push(keyed(41, &names, Durability::Fast)).await.unwrap();
    assert_eq!([fate(&saver, 40).await, fate(&saver, 41).await], [(0, 2), (6, 0)]);
    let page = saver.engine.targets(APP, MessageId(id(40)), "", 10).await.unwrap();
    assert!(page.targets.iter().all(|t| t.state == State::Replaced) && page.targets.len() == 2);

    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    servers.redis.start_again(Data::Wipe).await.unwrap();
    saver.later_than(epoch).await;
    for (base, class) in [(10, Durability::Fast), (20, Durability::Safe)] {
        let uid = format!("user-{base}");
        // Neither a repeat of the old one nor the rebuild brings it back.
        let again = saver.push(keyed(base + 1, &[&uid], class)).await.unwrap();
        assert!(again.repeated && again.positions[0].seq.0 == 0);
        assert_eq!(saver.ids(&uid).await, [6, 7, 3, 8].map(|n| base + n));
        // What survived is replaced in the step of the append.
        saver.push(keyed(base + 4, &[&uid], class)).await.unwrap();
        assert_eq!(saver.ids(&uid).await, [6, 7, 8, 4].map(|n| base + n));
        assert_eq!([fate(&saver, base + 3).await, fate(&saver, base + 4).await], [(0, 1), (1, 0)]);
    }
    assert_eq!((saver.ids("a").await, saver.ids("f").await), (vec![41], vec![41]));
    saver.stop().await;
}

/// What is stored while Redis is away has nothing to replace it with; the inbox does so when it is rebuilt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_without_redis_replaces_later() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    let first = saver.push(keyed(1, &["a"], Durability::Fast)).await.unwrap().positions[0];
    saver.engine.flush().await.unwrap();
    servers.redis.kill().await.unwrap();
    eventually(|| async { !saver.engine.inboxes().is_up() }).await;
    for n in 2..=3 {
        saver.push(keyed(n, &["a"], Durability::Safe)).await.unwrap();
    }
    servers.redis.start_again(Data::Keep).await.unwrap();
    saver.later_than(first.epoch).await;
    assert_eq!(saver.ids("a").await, [3]);
    assert_eq!(
        [fate(&saver, 1).await, fate(&saver, 2).await, fate(&saver, 3).await],
        [(0, 1), (0, 1), (1, 0)]
    );
    saver.stop().await;
}

/// Without MySQL, class `fast` replaces what is in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_replaces_without_mysql() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    saver.push(keyed(1, &["a"], Durability::Fast)).await.unwrap();
    saver.ids("a").await;
    saver.engine.flush().await.unwrap();
    servers.mysql.kill().await.unwrap();
    for n in 2..=4 {
        saver.push(keyed(n, &["a"], Durability::Fast)).await.unwrap();
        assert_eq!(saver.ids("a").await, [n]);
    }
    servers.mysql.start_again().await.unwrap();
    eventually(|| async { saver.engine.flush().await.is_ok() }).await;
    assert_eq!(
        [fate(&saver, 1).await, fate(&saver, 3).await, fate(&saver, 4).await],
        [(0, 1), (0, 1), (1, 0)]
    );
    saver.stop().await;
}
