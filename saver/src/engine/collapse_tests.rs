//! Conflation through the engine: the ledger, repeats, restarts, and random histories beside a model.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    tests::{Rig, append, counts, id},
    *,
};
use crate::archive::ArchiveError;

fn keyed(n: u64, uids: &[&str], collapse: &str) -> Append {
    Append { collapse: Some(collapse.into()), ..append(n, uids) }
}

async fn push(rig: &Rig, item: Append) -> Appended {
    rig.engine.append(vec![item]).await.remove(0).unwrap()
}

/// The ledger says what became of the older one, and neither a repeat nor another life brings it back.
#[tokio::test]
async fn what_was_replaced_stays_so() {
    let mut rig = Rig::new().await;
    let old = push(&rig, keyed(1, &["a"], "k")).await;
    let new = push(&rig, keyed(2, &["a"], "k")).await;
    for life in 0..3 {
        assert_eq!(rig.ids("a").await, [2], "life {life}");
        let ledger = rig.ledger(1).await;
        assert_eq!((counts(&ledger), ledger.dropped["replaced"]), ([1, 0, 0, 0, 1, 0], 1));
        assert_eq!(counts(&rig.ledger(2).await), [1, 0, 1, 0, 0, 0]);
        let again = push(&rig, keyed(1, &["a"], "k")).await;
        assert!(again.repeated && again.positions[0].seq.0 == 0);
        let again = push(&rig, keyed(2, &["a"], "k")).await;
        assert!(again.repeated && again.positions[0].seq == new.positions[0].seq);
        assert_eq!(rig.ids("a").await, [2]);
        rig = rig.again().await;
    }
    assert!(old.positions[0].seq < new.positions[0].seq);
    let targets = rig.engine.targets(tests::APP, id(1), "", 10).await.unwrap();
    assert_eq!(targets.targets[0].state, crate::model::State::Replaced);
}

/// A multicast replaces each user's own.
#[tokio::test]
async fn multicasts_replace_and_are_replaced() {
    let rig = Rig::new().await;
    push(&rig, keyed(1, &["a", "b", "c"], "k")).await;
    push(&rig, keyed(2, &["b"], "k")).await;
    push(&rig, keyed(3, &["a", "b", "d"], "k")).await;
    assert_eq!(counts(&rig.ledger(1).await), [3, 0, 1, 0, 2, 0]);
    assert_eq!(counts(&rig.ledger(2).await), [1, 0, 0, 0, 1, 0]);
    assert_eq!(counts(&rig.ledger(3).await), [3, 0, 3, 0, 0, 0]);
    assert_eq!((rig.ids("a").await, rig.ids("c").await), (vec![3], vec![1]));
    let page = rig.engine.targets(tests::APP, id(1), "", 2).await.unwrap();
    let names: Vec<_> = page.targets.iter().map(|t| t.uid.as_str()).collect();
    assert_eq!((names, page.more), (vec!["a", "b"], true));
    let page = rig.engine.targets(tests::APP, id(1), "b", 2).await.unwrap();
    assert_eq!((page.targets[0].uid.as_str(), page.targets.len(), page.more), ("c", 1, false));
}

/// A transaction that fails replaces nothing; one of which that is not known is found out.
#[tokio::test]
async fn a_failed_transaction_replaces_nothing() {
    let rig = Rig::new().await;
    push(&rig, keyed(1, &["a"], "k")).await;
    let io = || ArchiveError::Io("pulled".to_owned());
    *rig.fault.lock().unwrap() = Some((false, ArchiveError::DiskFull));
    assert!(rig.engine.append(vec![keyed(2, &["a"], "k")]).await[0].is_err());
    assert_eq!(rig.ids("a").await, [1]);
    *rig.fault.lock().unwrap() = Some((true, io()));
    assert!(rig.engine.append(vec![keyed(3, &["a"], "k")]).await[0].is_err());
    // The next append finds out: the third is there, and replaced the first.
    push(&rig, append(4, &["b"])).await;
    assert_eq!(rig.ids("a").await, [3]);
    assert_eq!(rig.ledger(1).await.dropped["replaced"], 1);
}

const USERS: [&str; 3] = ["a", "b", "c"];
const KEYS: [Option<&str>; 4] = [None, None, Some("k"), Some("l")];

/// One delivery of the model: message, user, key, and whether it is stored still.
struct Held {
    n: u64,
    user: usize,
    key: Option<&'static str>,
    end: Option<&'static str>,
    at: Position,
}

async fn check(rig: &Rig, held: &[Held]) {
    for (user, uid) in USERS.iter().enumerate() {
        let stored: Vec<u64> =
            held.iter().filter(|h| h.user == user && h.end.is_none()).map(|h| h.n).collect();
        assert_eq!(rig.ids(uid).await, stored, "{uid}");
    }
}

/// Pushes and multicasts with and without keys, repeats, acks, recalls, batches, failures and new lives, in any order: an
/// inbox holds of each key the newest, in order, and each delivery ended as the model says.
#[tokio::test]
async fn inboxes_are_as_the_model_says() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rig = Rig::new().await;
    let mut held: Vec<Held> = Vec::new();
    let mut items: Vec<Append> = Vec::new();
    for step in 0..300 {
        match random.random_range(0..100) {
            0..55 => {
                let batch: Vec<Append> = (0..random.random_range(1..6))
                    .map(|n| {
                        let first = random.random_range(0..3);
                        let users = &USERS[first..random.random_range(first + 1..=3)];
                        let key = KEYS[random.random_range(0..4)];
                        Append { collapse: key.map(Into::into), ..append(items.len() as u64 + n + 1, users) }
                    })
                    .collect();
                let fails = random.random_bool(0.1);
                if fails {
                    *rig.fault.lock().unwrap() = Some((false, ArchiveError::DiskFull));
                }
                let done = rig.engine.append(batch.clone()).await;
                for (item, done) in batch.iter().zip(done) {
                    items.push(item.clone());
                    // The fault may have met a transaction of acks instead.
                    assert!(fails || done.is_ok());
                    let Ok(done) = done else { continue };
                    let n = item.id.0 - id(0).0;
                    for (key, at) in item.keys.iter().zip(done.positions) {
                        let user = USERS.iter().position(|u| *u == key.uid().as_str()).unwrap();
                        let collapse =
                            KEYS.into_iter().flatten().find(|k| item.collapse.as_deref() == Some(k));
                        let old = held.iter_mut().filter(|h| {
                            h.user == user && h.end.is_none() && h.key.is_some() && h.key == collapse
                        });
                        old.for_each(|h| h.end = Some("replaced"));
                        held.push(Held { n, user, key: collapse, end: None, at });
                    }
                }
            }
            55..65 if !items.is_empty() => {
                let item = items[random.random_range(0..items.len())].clone();
                let n = item.id.0 - id(0).0;
                if held.iter().any(|h| h.n == n) {
                    assert!(push(&rig, item).await.repeated);
                }
            }
            65..80 => {
                let user = random.random_range(0..3);
                let all: Vec<Position> = held.iter().filter(|h| h.user == user).map(|h| h.at).collect();
                if !all.is_empty() {
                    let at = all[random.random_range(0..all.len())];
                    rig.ack(USERS[user], at).await;
                    let covered =
                        |h: &&mut Held| h.user == user && h.end.is_none() && crate::model::covers(at, h.at);
                    held.iter_mut().filter(covered).for_each(|h| h.end = Some("acked"));
                }
            }
            80..90 if !items.is_empty() => {
                let n = random.random_range(0..items.len()) as u64 + 1;
                rig.engine.recall(tests::APP, id(n), String::new(), usize::MAX).await.unwrap();
                held.iter_mut()
                    .filter(|h| h.n == n && h.end.is_none())
                    .for_each(|h| h.end = Some("recalled"));
            }
            90..93 => rig = rig.again().await,
            93..95 => rig.engine.restart().await.unwrap(),
            _ => {}
        }
        if step % 5 == 0 {
            check(&rig, &held).await;
        }
    }
    check(&rig, &held).await;
    for n in 1..=items.len() as u64 {
        let of = |end| held.iter().filter(|h| h.n == n && h.end == end).count() as u64;
        let ledger = rig.ledger(n).await;
        let [_, acked, stored, _, dropped, recalled] = counts(&ledger);
        assert_eq!(ledger.dropped.get("replaced").copied().unwrap_or(0), dropped);
        assert_eq!((stored, acked, dropped), (of(None), of(Some("acked")), of(Some("replaced"))), "{n}");
        assert_eq!(recalled, of(Some("recalled")), "{n}");
    }
    let replaced = held.iter().filter(|h| h.end == Some("replaced")).count();
    println!("{} deliveries, {replaced} replaced", held.len());
}

/// Offsets are kept at a bind, and pushes for later are given, listed and removed.
#[tokio::test]
async fn schedules_and_offsets() {
    use proto::internal::ScheduledPush;
    let rig = Rig::new().await;
    let bind = |uid: &str, minutes| LoadItem {
        key: tests::key(uid),
        read: tests::ALL,
        bind: true,
        own_cursor: None,
        utc_offset_min: minutes,
    };
    rig.engine.load(vec![bind("a", Some(120)), bind("b", None)]).await;
    rig.engine.flush().await.unwrap();
    // The writer takes what it is given in order: this comes after the offsets.
    rig.engine.load(vec![bind("c", Some(-30))]).await;
    push(&rig, append(1, &["a"])).await;
    let offsets = rig.engine.utc_offsets(&["c", "b", "a"].map(tests::key)).await.unwrap();
    assert_eq!(offsets, [-30, 0, 120]);
    let part = |n: u64, part, due_ms, users: usize| ScheduledPush {
        id: id(n).0,
        app: tests::APP.0,
        part,
        due_ms,
        uids: (0..users).map(|u| format!("u{u}")).collect(),
        payload: Bytes::from_static(b"later"),
        ..ScheduledPush::default()
    };
    let put = async |p: ScheduledPush| rig.engine.put_scheduled(&tests::key(&p.uids[0]), p).await;
    assert_eq!(put(part(1, 0, 200, 2)).await, Ok(false));
    assert_eq!(put(part(1, 1, 200, 3)).await, Ok(false));
    assert_eq!(put(part(2, 0, 100, 1)).await, Ok(false));
    assert_eq!(put(part(1, 0, 900, 9)).await, Ok(true));
    assert_eq!(put(part(3, 0, 100, 10_001)).await.unwrap_err().code(), "too_many_users");
    let large = ScheduledPush { payload: vec![0; 3 << 20].into(), ..part(3, 0, 100, 1) };
    assert_eq!(put(large).await.unwrap_err().code(), "too_large");
    let list = rig.engine.list_scheduled(tests::APP, 10).await.unwrap();
    let list: Vec<_> = list.iter().map(|p| (p.id - id(0).0, p.users, p.due_ms, p.uids.len())).collect();
    assert_eq!(list, [(2, 1, 100, 0), (1, 5, 200, 0)]);
    assert_eq!(rig.engine.list_scheduled(tests::APP, 1).await.unwrap().len(), 1);
    assert!(rig.engine.due_scheduled(99, 9).await.unwrap().is_empty());
    let due = rig.engine.due_scheduled(200, 2).await.unwrap();
    assert_eq!(due.iter().map(|p| (p.id - id(0).0, p.part)).collect::<Vec<_>>(), [(2, 0), (1, 0)]);
    assert_eq!(due[1].uids, ["u0", "u1"]);
    let rig = rig.again().await;
    assert_eq!(rig.engine.due_scheduled(200, 9).await.unwrap().len(), 3);
    assert_eq!(rig.engine.remove_scheduled(tests::APP, id(1), None).await, Ok(5));
    assert_eq!(rig.engine.remove_scheduled(tests::APP, id(2), Some(0)).await, Ok(1));
    assert_eq!(rig.engine.remove_scheduled(tests::APP, id(2), Some(0)).await, Ok(0));
    assert!(rig.engine.due_scheduled(1_000, 9).await.unwrap().is_empty());
}
