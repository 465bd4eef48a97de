//! Idempotency keys in a real Redis.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::{archive::Reservation, inbox::Tied};

const DAY: u64 = 86_400_000;

fn wanted(word: &str, id: u64, expires_ms: u64) -> Reservation {
    Reservation {
        app: key("a").app(),
        word: word.to_owned(),
        id: MessageId(id),
        fingerprint: vec![7; 32].into(),
        expires_ms,
    }
}

impl Rig {
    async fn tie(&self, word: &str, id: u64, now_ms: u64) -> Tied {
        self.store.tie(&wanted(word, id, now_ms + DAY), true, now_ms).await.unwrap()
    }
}

#[tokio::test]
async fn a_new_key_is_tied_and_lands() {
    for servers in [
        Servers::Single(stores::Redis::start().await.unwrap()),
        Servers::Cluster(stores::RedisCluster::start(3).await.unwrap()),
    ] {
        let rig = Rig::on(servers, |_| {}).await;
        assert_eq!(rig.tie("one", 1, NOW).await, Tied::New);
        assert_eq!(rig.tie("one", 2, NOW).await, Tied::Known(wanted("one", 1, NOW + DAY)));
        assert_eq!(rig.tie("two", 3, NOW).await, Tied::New);
        let landed: HashSet<u64> = rig
            .land()
            .await
            .into_iter()
            .map(|r| match r {
                Record::Reserved(r) => {
                    assert_eq!(r, wanted(&r.word, r.id.0, NOW + DAY));
                    r.id.0
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(landed, [1, 3].into());
        assert_eq!(rig.tie("one", 4, NOW).await, Tied::Known(wanted("one", 1, NOW + DAY)));
        // Over: whether somebody has tied it since, only the archive can tell.
        assert_eq!(rig.tie("one", 5, NOW + DAY).await, Tied::Ask);
        // One that only the archive is to tie is not tied here behind its back, until its time is over and all is forgotten.
        let safe = wanted("three", 6, NOW + DAY);
        assert_eq!(rig.store.tie(&safe, false, NOW).await, Ok(Tied::Ask));
        assert_eq!(rig.tie("three", 7, NOW).await, Tied::Ask);
        rig.store.tied(&wanted("three", 6, NOW + DAY), true, NOW).await.unwrap();
        assert_eq!(rig.tie("three", 8, NOW).await, Tied::Known(safe));
        assert_eq!(rig.land().await.len(), 0, "the archive has it");
    }
}

/// Of many that come at once with one key, one ties it.
#[tokio::test]
async fn one_of_many_ties_a_key() {
    let rig = Rig::single(|_| {}).await;
    let all = futures::future::join_all((1..=50).map(|id| rig.tie("one", id, NOW))).await;
    let new: Vec<u64> = (1..=50).zip(&all).filter(|(_, t)| **t == Tied::New).map(|(id, _)| id).collect();
    assert_eq!(new.len(), 1);
    let same = Tied::Known(wanted("one", new[0], NOW + DAY));
    assert_eq!(all.iter().filter(|t| **t == same).count(), 49);
}

/// What the archive had before the life began is the archive's to tell, until all of that has ended.
#[tokio::test]
async fn a_life_that_began_anew_knows_what_it_does_not_know() {
    let rig = Rig::single(|_| {}).await;
    assert_eq!(rig.tie("early", 1, NOW).await, Tied::New);
    let until = NOW + DAY / 2;
    rig.store.stand_alone(Epoch(6), until).await;
    assert_eq!(rig.tie("early", 2, NOW).await, Tied::Known(wanted("early", 1, NOW + DAY)));
    assert_eq!(rig.tie("late", 3, NOW).await, Tied::Ask);
    assert_eq!(rig.tie("late", 3, until).await, Tied::Ask, "it was asked for, and may have been tied");
    assert_eq!(rig.tie("later", 4, until).await, Tied::New);
    rig.store.stand_alone(Epoch(7), 0).await;
    assert_eq!(rig.tie("again", 5, until - 1).await, Tied::Ask, "an earlier life's is not shorter");
}

/// A full journal refuses new keys, and answers for those that are known.
#[tokio::test]
async fn a_full_journal_ties_nothing() {
    let rig = Rig::single(|s| (s.partitions, s.journal_records) = (1, 3)).await;
    for id in 1..=3 {
        assert_eq!(rig.tie(&format!("word {id}"), id, NOW).await, Tied::New);
    }
    let refused = rig.store.tie(&wanted("word 4", 4, NOW + DAY), true, NOW).await;
    assert_eq!(refused, Err(InboxError::Behind));
    assert!(matches!(rig.tie("word 2", 9, NOW).await, Tied::Known(_)));
    rig.land().await;
    assert_eq!(rig.tie("word 4", 4, NOW).await, Tied::New);
}

/// Whatever is forgotten, and when: a key that is tied is never called new again before its time.
#[tokio::test]
async fn what_is_forgotten_is_not_taken_for_new() {
    // 16 keys in a bucket, 85 in a filter.
    let rig = Rig::single(|s| (s.partitions, s.words, s.filter_bytes) = (1, 16, 128)).await;
    let mut archive: HashMap<String, (u64, u64)> = HashMap::new();
    let (mut new, mut asked) = (0, 0);
    let mut x = 7u64;
    for n in 0..4_000u64 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let now = NOW + n * 10;
        let word = format!("word {}", (n / 4).saturating_sub((x >> 33) % 200));
        let held = archive.get(&word).filter(|(_, ends)| *ends > now).map(|(id, _)| *id);
        let ask = wanted(&word, n + 1, now + 2_000);
        let certain = x >> 60 != 0;
        match rig.store.tie(&ask, certain, now).await.unwrap() {
            Tied::New => {
                assert!(certain && held.is_none(), "{word} is tied to {held:?}");
                archive.insert(word, (n + 1, now + 2_000));
                new += 1;
            }
            Tied::Known(known) => assert_eq!(Some(known.id.0), held),
            Tied::Ask => {
                asked += 1;
                if held.is_none() {
                    archive.insert(word, (n + 1, now + 2_000));
                }
                rig.store.tied(&ask, held.is_none(), now).await.unwrap();
            }
        }
        if x >> 50 & 15 == 0 {
            rig.land().await;
        }
    }
    assert!(new > 300 && asked > 300, "{new} new, {asked} asked");
}

/// A thousand keys that nobody has used: a filter as the defaults have it takes few of them for others.
#[tokio::test]
async fn a_filter_tells_new_keys_from_used_ones() {
    let rig = Rig::single(|s| (s.partitions, s.words, s.filter_bytes) = (1, 10, 3_000)).await;
    let mut mistaken = 0;
    for n in 1..=2_000u64 {
        mistaken += u32::from(rig.tie(&format!("word {n}"), n, NOW).await == Tied::Ask);
    }
    assert!(mistaken < 20, "{mistaken}");
}
