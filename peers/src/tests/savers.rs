//! What is asked of savers, over one shard and several.

use std::sync::atomic::Ordering;

use cluster::{
    Role,
    rendezvous::{app_key, user_key},
};
use futures::future::join_all;
use proto::internal as rpc;

use super::{
    fake_saver::FakeSaver,
    town::{Town, limits},
};
use crate::{PeerError, Savers};

async fn town(ids: &[u32]) -> (Town, Savers, Vec<FakeSaver>) {
    let mut town = Town::new();
    let mut fakes = Vec::new();
    for id in ids {
        let fake = FakeSaver::new(*id);
        town.add(Role::Saver, *id, fake.routes()).await;
        fakes.push(fake);
    }
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    (town, savers, fakes)
}

/// Appends it to all of its users; the first error, if there is one.
async fn append_list(savers: &Savers, item: rpc::Append) -> Result<Vec<rpc::Position>, PeerError> {
    let uids = item.uids.clone();
    savers.append_list(item, &uids).await.into_iter().collect()
}

fn message(uids: impl IntoIterator<Item = u32>) -> rpc::Append {
    rpc::Append {
        id: 1,
        app: 7,
        uids: uids.into_iter().map(|n| n.to_string()).collect(),
        payload: vec![1; 100].into(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_multicast_is_split_by_shard_and_its_positions_come_in_order() {
    let (town, savers, fakes) = town(&[1, 2, 3]).await;
    let positions = append_list(&savers, message(0..1000)).await.unwrap();
    assert_eq!(positions.len(), 1000);
    for (n, position) in positions.iter().enumerate() {
        let owner = town.owner(Role::Saver, user_key(7, &n.to_string()));
        assert_eq!((position.seq, position.epoch), (n as u64, u64::from(owner)));
    }
    for fake in &fakes {
        let appends = &fake.seen.lock().unwrap().appends;
        assert_eq!(appends.len(), 1, "one part to a shard");
        assert!(appends[0].multicast && appends[0].payload.len() == 100 && appends[0].id == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_part_that_failed_is_appended_again() {
    let (_town, savers, fakes) = town(&[1, 2, 3]).await;
    fakes[1].failing.store(2, Ordering::SeqCst);
    let positions = append_list(&savers, message(0..100)).await.unwrap();
    assert!(positions.iter().enumerate().all(|(n, p)| p.seq == n as u64 && p.epoch > 0));
    let counts: Vec<_> = fakes.iter().map(|f| f.seen.lock().unwrap().appends.len()).collect();
    assert_eq!(counts, [1, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_saver_that_is_away_costs_only_its_own_users() {
    let (town, savers, fakes) = town(&[1, 2]).await;
    fakes[1].failing.store(u32::MAX, Ordering::SeqCst);
    let uids: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    let results = savers.append_list(message([]), &uids).await;
    for (uid, result) in uids.iter().zip(results) {
        assert_eq!(result.is_ok(), town.owner(Role::Saver, user_key(7, uid)) == 1, "{uid}");
    }
    let appends = &fakes[0].seen.lock().unwrap().appends;
    assert!(
        appends.len() == 2 && appends.iter().all(|part| part.uids.len() <= 1_000),
        "in parts that share batches"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_to_one_is_not_marked_as_multicast() {
    let (_town, savers, fakes) = town(&[1]).await;
    assert_eq!(savers.append(message([5])).await.unwrap().positions[0].seq, 5);
    assert!(!fakes[0].seen.lock().unwrap().appends[0].multicast);
    assert!(savers.append(message([])).await.unwrap().positions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_and_not_tried_again() {
    let mut town = Town::new();
    let refusal =
        rpc::Refusal { code: "archive_down".into(), message: "no archive".into(), retry_after_ms: 900 };
    let fake = FakeSaver { refusal: Some(refusal.clone()), ..FakeSaver::new(1) };
    town.add(Role::Saver, 1, fake.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let one = savers.append(message([1])).await.unwrap_err();
    let list = append_list(&savers, message([1, 2])).await.unwrap_err();
    for error in [one, list] {
        assert!(matches!(&error, PeerError::Refused(r) if *r == refusal));
        assert_eq!(error.outcome().http, 503);
    }
    assert!(savers.load(rpc::LoadItem::default()).await.is_err());
    assert!(savers.append_broadcast(rpc::AppendBroadcastRequest::default()).await.is_err());
    assert_eq!(fake.seen.lock().unwrap().appends.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn ledger_and_recall_are_of_all_shards() {
    let (town, savers, _fakes) = town(&[1, 2, 3]).await;
    let ledger = savers.ledger(7u32, 1).await.unwrap();
    assert_eq!((ledger.found, ledger.targets, ledger.acked), (true, 30, 30));
    for shard in savers.shards() {
        let request = rpc::RecallRequest { app: 7, id: 1, ..Default::default() };
        let recall = savers.recall(shard, request).await.unwrap();
        assert_eq!(recall.recalled, [format!("of {}", shard.0)]);
    }
    // A sum without one of its parts would be a wrong number.
    town.kill(2);
    assert!(matches!(savers.ledger(7u32, 1).await, Err(PeerError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn heads_are_asked_of_each_apps_owner() {
    let (town, savers, fakes) = town(&[1, 2, 3]).await;
    let apps: Vec<u32> = (1..=50).collect();
    let mut heads = savers.broadcast_heads(&apps).await.unwrap();
    heads.sort_by_key(|head| head.app);
    assert_eq!(heads.iter().map(|head| head.app).collect::<Vec<_>>(), apps);
    for head in heads {
        assert_eq!(head.head, u64::from(town.owner(Role::Saver, app_key(head.app))));
    }
    assert!(fakes.iter().all(|fake| !fake.seen.lock().unwrap().heads.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_few_requests() {
    let (_town, savers, fakes) = town(&[1]).await;
    let acks =
        (0..5000).map(|n| savers.ack(rpc::AckItem { app: 7, uid: n.to_string(), ..Default::default() }));
    assert!(join_all(acks).await.into_iter().all(|result| result.is_ok()));
    let batches = &fakes[0].seen.lock().unwrap().acks;
    assert_eq!(batches.iter().sum::<usize>(), 5000);
    assert!(batches.len() <= 5000 / 512 + 4, "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_may_have_been_done_is_not_repeated() {
    let (_town, savers, fakes) = town(&[1]).await;
    let app = |id| rpc::App { id, key: "demo".into(), ..Default::default() };
    fakes[0].failing.store(1, Ordering::SeqCst);
    assert!(matches!(savers.put_app(app(0)).await, Err(PeerError::Unavailable { .. })));
    assert_eq!(fakes[0].seen.lock().unwrap().put_apps, 1);
    fakes[0].failing.store(1, Ordering::SeqCst);
    assert_eq!(savers.put_app(app(3)).await.unwrap(), app(3));
    assert_eq!(fakes[0].seen.lock().unwrap().put_apps, 3);
}

/// The first attempt ties the key, its answer is lost, the second finds the key tied, by itself.
#[tokio::test(start_paused = true)]
async fn a_reservation_is_not_taken_for_a_repeat_of_itself() {
    let (_town, savers, fakes) = town(&[1]).await;
    fakes[0].failing.store(1, Ordering::SeqCst);
    let reserve =
        |id| savers.reserve(rpc::ReserveRequest { app: 7, key: "k".into(), id, ..Default::default() });
    let first = reserve(11).await.unwrap();
    assert_eq!((first.id, first.repeated), (11, false));
    let second = reserve(12).await.unwrap();
    assert_eq!((second.id, second.repeated), (11, true));
}

#[tokio::test(start_paused = true)]
async fn the_other_calls_answer() {
    let (town, savers, _fakes) = town(&[1, 2]).await;
    let owner = town.owner(Role::Saver, user_key(7, "u"));
    assert_eq!(savers.depth(7u32, "u").await.unwrap(), u64::from(owner));
    assert_eq!(savers.load(rpc::LoadItem::default()).await.unwrap().through, 7);
    assert_eq!(savers.append_broadcast(rpc::AppendBroadcastRequest::default()).await.unwrap().bseq, 1);
    assert!(!savers.load_broadcasts(rpc::LoadBroadcastsRequest::default()).await.unwrap().more);
    assert!(savers.recall_broadcast(7u32, 1).await.unwrap());
    assert!(savers.find_key(vec![1]).await.unwrap().found);
    savers.put_key(rpc::PutKeyRequest::default()).await.unwrap();
}

/// What is `fast` is not answered with what waits for the archive.
#[tokio::test(start_paused = true)]
async fn classes_do_not_share_a_call() {
    let (_town, savers, fakes) = town(&[1]).await;
    let pushes = (0..40).map(|n| {
        let class = if n % 2 == 0 { rpc::Durability::Fast } else { rpc::Durability::Safe };
        savers.append(rpc::Append { id: n + 1, durability: class.into(), ..message([n as u32]) })
    });
    assert!(join_all(pushes).await.iter().all(Result::is_ok));
    let seen = fakes[0].seen.lock().unwrap();
    assert_eq!(seen.appends.len(), 40);
    assert!(seen.classes.len() < 40, "they share calls");
    assert!(seen.classes.iter().all(|call| call.iter().all(|class| *class == call[0])), "{:?}", seen.classes);
}
