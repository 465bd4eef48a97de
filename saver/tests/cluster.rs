//! The engine on a real Redis and a real MariaDB, with faults.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod shared;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use saver::{
    archive::Archive as _,
    engine::{Append, Durability, Limits},
    inbox::{InboxStore as _, Journaled as _},
};
use shared::{Saver, Servers, append, eventually};
use stores::Data;
use wire::id::{Epoch, MessageId, Position, Seq};

fn with(durability: Durability, append: Append) -> Append {
    Append { durability: Some(durability), ..append }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_lives_as_the_ledger_says() {
    let servers = Servers::start().await;
    let saver = servers.saver(|l| *l = Limits { max_loads: 2, ..l.clone() }).await;
    for durability in [Durability::Fast, Durability::Safe] {
        let base = 1000 * (1 + durability as u64);
        let uid = format!("user-{base}");
        let items = (1..=5).map(|n| with(durability, append(base + n, &[&uid]))).collect();
        let done = saver.engine.append(items).await;
        let positions: Vec<Position> = done.iter().map(|d| d.as_ref().unwrap().positions[0]).collect();
        assert!(positions.is_sorted_by(|a, b| a.seq.0 + 1 == b.seq.0));
        assert_eq!(saver.ids(&uid).await, [1, 2, 3, 4, 5].map(|n| base + n));
        saver.ack(&uid, positions[1]).await;
        assert_eq!(saver.ids(&uid).await, [3, 4, 5].map(|n| base + n));
        // Loaded twice: the third time they are dead letters.
        assert!(saver.ids(&uid).await.is_empty());
        let states: Vec<_> = [1, 3].map(|n| base + n).into();
        let acked = saver.ledger(states[0]).await;
        assert_eq!((acked.targets, acked.acked), (1, 1));
        let dead = saver.ledger(states[1]).await;
        assert_eq!((dead.targets, dead.dropped["max_loads"]), (1, 1));
        // A repeat finds what was there.
        let again = saver.push(with(durability, append(base + 1, &[&uid]))).await.unwrap();
        assert!(again.repeated && again.positions[0].seq == Seq(0));
    }
    let sent = saver.push(append(5000, &["a", "b", "c"])).await.unwrap();
    assert_eq!(sent.positions.len(), 3);
    let more = saver.push(with(Durability::Safe, append(5000, &["c", "d"]))).await.unwrap();
    assert_eq!((more.positions[0], more.repeated), (sent.positions[2], false));
    saver.ack("a", sent.positions[0]).await;
    let recalled = saver
        .engine
        .recall(shared::APP, MessageId(shared::id(5000)), String::new(), usize::MAX)
        .await
        .unwrap();
    assert_eq!((recalled.recalled.len(), recalled.delivered.len()), (3, 1));
    let ledger = saver.ledger(5000).await;
    assert_eq!((ledger.targets, ledger.acked, ledger.recalled), (4, 1, 3));
    // The same over a new saver, whose inboxes are where they were.
    let other = servers.saver(|_| {}).await;
    assert_eq!(other.engine.inboxes().epoch(), saver.engine.inboxes().epoch());
    assert!(other.ids("b").await.is_empty());
    saver.stop().await;
    other.stop().await;
}

/// Two savers may serve one user at once: numbers have no holes and each is given once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_savers_serve_one_user() {
    let servers = Servers::start().await;
    let (one, two) = (servers.saver(|_| {}).await, servers.saver(|_| {}).await);
    let pushes = (1..=200u64).map(|n| {
        let saver = if n % 2 == 0 { &one } else { &two };
        let class = if n % 5 == 0 { Durability::Safe } else { Durability::Fast };
        async move { saver.push(with(class, append(n, &["a"]))).await.unwrap().positions[0].seq.0 }
    });
    let mut seqs = futures::future::join_all(pushes).await;
    seqs.sort_unstable();
    assert!(seqs.is_sorted_by(|a, b| a + 1 == *b), "{seqs:?}");
    assert_eq!(one.ids("a").await.len(), 200);
    assert_eq!(two.ids("a").await, one.ids("a").await);
    one.stop().await;
    two.stop().await;
}

/// What was answered while load went on: each message's place, and whether it was safe.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u64, (String, Position, bool)>>);

/// Appends to some users until `stop`, and keeps what was answered. Refusals are repeated later by nobody.
fn load(
    saver: &Saver,
    told: &Arc<Told>,
    stop: &Arc<AtomicBool>,
    base: u64,
) -> Vec<tokio::task::JoinHandle<u64>> {
    let user = |user: u64| {
        let (engine, told, stop) = (saver.engine.clone(), told.clone(), stop.clone());
        tokio::spawn(async move {
            let mut refused = 0;
            let mut n = base;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let uid = format!("user-{user}");
                let safe = n.is_multiple_of(3);
                let class = if safe { Durability::Safe } else { Durability::Fast };
                let item = with(class, append(n * 100 + user, &[&uid]));
                match engine.append(vec![item]).await.remove(0) {
                    Ok(done) => {
                        told.0.lock().unwrap().insert(n * 100 + user, (uid, done.positions[0], safe));
                    }
                    Err(_) => {
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            refused
        })
    };
    (0..8).map(user).collect()
}

async fn end(stop: &AtomicBool, tasks: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    stop.store(true, Ordering::Relaxed);
    let mut refused = 0;
    for task in tasks {
        refused += task.await.unwrap();
    }
    refused
}

/// All that was answered is in the inboxes, once and in order of the places; of `fast` only what `kept` says.
async fn judge(saver: &Saver, told: &Told, kept: impl Fn(bool) -> bool) {
    let told = told.0.lock().unwrap().clone();
    let mut places = BTreeMap::new();
    let mut users: BTreeMap<String, Vec<(u64, Position, bool)>> = BTreeMap::new();
    for (n, (uid, place, safe)) in told {
        if place.seq != Seq::ZERO {
            let twice = places.insert((uid.clone(), place.epoch.0, place.seq.0), n);
            assert_eq!(twice, None, "a number was given twice in an epoch");
        }
        users.entry(uid).or_default().push((n, place, safe));
    }
    for (uid, told) in users {
        let found = saver.ids(&uid).await;
        let once: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(once.len(), found.len(), "{uid}: doubled");
        assert!(found.is_sorted(), "{uid}: out of order: {found:?}");
        for (n, place, safe) in told {
            assert!(
                once.contains(&n) || !kept(safe),
                "{uid}: message {n} at {place:?} is lost (safe: {safe})"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_with_its_data_loses_nothing() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    let (told, stop) = (Arc::<Told>::default(), Arc::<AtomicBool>::default());
    let tasks = load(&saver, &told, &stop, 0);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    servers.redis.start_again(Data::Keep).await.unwrap();
    saver.later_than(epoch).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let refused = end(&stop, tasks).await;
    assert!(refused > 0, "fast was refused meanwhile");
    judge(&saver, &told, |_| true).await;
    saver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_its_data_loses_nothing_that_was_safe() {
    let servers = Servers::start().await;
    let (saver, other) = (servers.saver(|_| {}).await, servers.saver(|_| {}).await);
    let (told, stop) = (Arc::<Told>::default(), Arc::<AtomicBool>::default());
    // What has landed stays, too.
    for n in 1..=50 {
        saver.push(append(n, &["early"])).await.unwrap();
    }
    saver.engine.flush().await.unwrap();
    let tasks = load(&saver, &told, &stop, 0);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    servers.redis.start_again(Data::Wipe).await.unwrap();
    saver.later_than(epoch).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    end(&stop, tasks).await;
    judge(&saver, &told, |safe| safe).await;
    assert_eq!(saver.ids("early").await.len(), 50);
    // What was stored while Redis was away may begin another epoch: in the end both are in the same.
    eventually(|| async {
        other.engine.inboxes().epoch() == saver.engine.inboxes().epoch() && other.engine.inboxes().is_up()
    })
    .await;
    saver.stop().await;
    other.stop().await;
}

/// With one replica waited for, a promoted one has all that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_is_followed() {
    let servers = Servers::start().await;
    let replica = stores::Redis::replica_of(&servers.redis).await.unwrap();
    replica.in_step().await.unwrap();
    let nodes = vec![servers.redis.url(), replica.url()];
    let saver = servers.saver_with(|r| (r.nodes, r.wait_replicas) = (nodes.clone(), 1), |_| {}).await;
    let (told, stop) = (Arc::<Told>::default(), Arc::<AtomicBool>::default());
    let tasks = load(&saver, &told, &stop, 0);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    end(&stop, tasks).await;
    replica.promote().await.unwrap();
    saver.later_than(epoch).await;
    judge(&saver, &told, |_| true).await;
    // Nobody has it besides the master now.
    let refused = saver.push(append(9_999_999, &["a"])).await.unwrap_err();
    assert_eq!(refused.code(), "inboxes_unavailable");
    saver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_away_and_back() {
    let servers = Servers::start().await;
    let few = |r: &mut saver::inbox::redis::RedisSettings| (r.journal_records, r.partitions) = (40, 1);
    let saver = servers.saver_with(few, |_| {}).await;
    saver.push(with(Durability::Safe, append(1, &["a"]))).await.unwrap();
    saver.ids("a").await;
    servers.mysql.kill().await.unwrap();
    let mut stored = vec![1];
    let mut refused = None;
    for n in 2..=200 {
        match saver.push(append(n, &["a"])).await {
            Ok(_) => stored.push(n),
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.code(), refused.retry_after_ms()), ("archive_behind", Some(1000)));
    assert!((20..=80).contains(&stored.len()), "{}", stored.len());
    assert_eq!(saver.ids("a").await, stored, "what is in Redis is read without MySQL");
    let refused = saver.push(with(Durability::Safe, append(999, &["a"]))).await.unwrap_err();
    assert!(["archive_unavailable", "archive_behind"].contains(&refused.code()), "{refused:?}");
    // An ack makes room even now, in Redis.
    let last = saver.load("a").await.inbox.messages[0].seq;
    saver.ack("a", Position { epoch: saver.engine.inboxes().epoch(), seq: last }).await;
    servers.mysql.start_again().await.unwrap();
    eventually(|| async { saver.push(with(Durability::Safe, append(1000, &["a"]))).await.is_ok() }).await;
    stored.remove(0);
    stored.push(1000);
    let mut found = saver.ids("a").await;
    // The refused one may have been stored all the same.
    found.retain(|n| *n != 999 && stored.contains(n));
    assert_eq!(found, stored);
    assert_eq!(saver.ledger(1).await.acked, 1);
    assert_eq!(saver.ledger(stored[3]).await.stored, 1);
    saver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn safe_goes_on_while_redis_is_away() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    let first = saver.push(append(1, &["a"])).await.unwrap().positions[0];
    saver.engine.flush().await.unwrap();
    servers.redis.kill().await.unwrap();
    eventually(|| async { !saver.engine.inboxes().is_up() }).await;
    let refused = saver.push(append(2, &["a"])).await.unwrap_err();
    assert_eq!((refused.code(), refused.retry_after_ms()), ("inboxes_unavailable", Some(2000)));
    for n in 3..=5 {
        let safe = saver.push(with(Durability::Safe, append(n, &["a"]))).await.unwrap();
        assert_eq!(safe.positions[0].seq, Seq(0), "nobody is to look for it yet");
    }
    let again = saver.push(with(Durability::Safe, append(4, &["a"]))).await.unwrap();
    assert!(again.repeated);
    servers.redis.start_again(Data::Keep).await.unwrap();
    saver.later_than(first.epoch).await;
    assert_eq!(saver.ids("a").await, [1, 3, 4, 5]);
    saver.push(append(6, &["a"])).await.unwrap();
    assert_eq!(saver.ids("a").await, [1, 3, 4, 5, 6]);
    // A device that has the first sees the others after it.
    let rest = saver.after("a", first).await;
    assert_eq!(rest, [3, 4, 5, 6]);
    saver.stop().await;
}

/// A lander that read a part, slept, and wakes up after others have landed it, and even after an epoch has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lander_that_wakes_up_late_does_no_harm() {
    let servers = Servers::start().await;
    let saver = servers.saver_landing(false).await;
    let place = saver.push(append(1, &["a"])).await.unwrap().positions[0];
    saver.push(append(2, &["a"])).await.unwrap();
    let store = saver.engine.inboxes();
    let all: Vec<u32> = (0..store.partitions()).collect();
    let old = store.journal(&all).await.unwrap();
    assert_eq!(old.iter().map(|p| p.records.len()).sum::<usize>(), 2);
    saver.ack("a", place).await;
    saver.engine.flush().await.unwrap();
    assert_eq!(saver.ledger(1).await.acked, 1);
    let late: Vec<_> = old.iter().map(|p| (p.partition, p.mark.clone())).collect();
    store.landed(&late).await.unwrap();
    let epoch = store.epoch();
    servers.redis.kill().await.unwrap();
    servers.redis.start_again(Data::Wipe).await.unwrap();
    saver.later_than(epoch).await;
    // The new journal's first lines must not be taken for landed.
    saver.push(append(3, &["a"])).await.unwrap();
    store.landed(&late).await.unwrap();
    assert_eq!(store.lag(&all).await.unwrap().records, 1);
    assert_eq!(saver.ids("a").await, [2, 3]);
    assert_eq!(saver.ledger(1).await.acked, 1);
    let life = saver.engine.archive().shared_life().await.unwrap().unwrap();
    assert!(life.epoch > epoch && life.epoch > Epoch(0));
    saver.stop().await;
}

/// Redis that answers nothing for a while (stopped, not killed) goes on in the same epoch with all it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_hangs_goes_on() {
    let servers = Servers::start().await;
    let quick = |r: &mut saver::inbox::redis::RedisSettings| r.timeout = Duration::from_millis(300);
    let saver = servers.saver_with(quick, |_| {}).await;
    saver.push(append(1, &["a"])).await.unwrap();
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.server().pause_for(Duration::from_secs(2)).await.unwrap();
    eventually(|| async { saver.push(append(2, &["a"])).await.is_ok() }).await;
    assert_eq!(saver.ids("a").await, [1, 2]);
    assert_eq!(saver.engine.inboxes().epoch(), epoch);
    saver.stop().await;
}
