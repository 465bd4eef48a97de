//! What rooms are told.

use std::time::Duration;

use bytes::Bytes;
use cluster::{NodeId, Role};
use futures::future::join_all;
use proto::internal::{self as rpc, Delivery};
use tokio::time::Instant;

use super::{
    fake_room::FakeRoom,
    town::{Town, limits},
};
use crate::{PeerError, Rooms};

async fn town(ids: &[u32]) -> (Town, Rooms, Vec<FakeRoom>) {
    let mut town = Town::new();
    let mut fakes = Vec::new();
    for id in ids {
        let fake = FakeRoom::default();
        town.add(Role::Room, *id, fake.routes()).await;
        fakes.push(fake);
    }
    let rooms = Rooms::new(&town.cluster, limits(), town.cancel.clone());
    (town, rooms, fakes)
}

fn item(seq: u64) -> rpc::DeliverItem {
    rpc::DeliverItem { app: 7, uid: "u".into(), seq, ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn deliveries_arrive_in_order_one_batch_at_a_time() {
    let (_town, rooms, fakes) = town(&[1]).await;
    let calls = (0..3000).map(|n| rooms.deliver(NodeId(1), item(n), Bytes::from(n.to_string())));
    for result in join_all(calls).await {
        assert_eq!(result.unwrap(), Delivery::Sent);
    }
    let seen = fakes[0].seen.lock().unwrap();
    assert_eq!(seen.at_a_time, 1);
    assert!(seen.deliveries.len() <= 3000 / 512 + 2);
    let mut seqs = Vec::new();
    for request in &seen.deliveries {
        for item in &request.items {
            let payload = &request.payloads[item.payload.unwrap() as usize];
            assert_eq!(payload, item.seq.to_string().as_bytes());
            seqs.push(item.seq);
        }
    }
    assert!(seqs.len() == 3000 && seqs.is_sorted());
}

/// An urgent message that came after thousands of others waited for all of them.
#[tokio::test(start_paused = true)]
async fn what_is_urgent_does_not_wait_behind_what_is_not() {
    let (_town, rooms, fakes) = town(&[1]).await;
    let rest: Vec<_> = (0..5_000)
        .map(|n| {
            let rooms = rooms.clone();
            tokio::spawn(async move { rooms.deliver(NodeId(1), item(n), Bytes::from_static(b"x")).await })
        })
        .collect();
    super::town::settle().await;
    let urgent = rpc::DeliverItem { urgent: true, ..item(9_999) };
    rooms.deliver(NodeId(1), urgent, Bytes::from_static(b"x")).await.unwrap();
    assert!(fakes[0].seen.lock().unwrap().deliveries.len() < 4, "some batches of ten had gone");
    for done in rest {
        assert_eq!(done.await.unwrap().unwrap(), Delivery::Sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_shares_its_payload_and_fits_whatever_its_length() {
    let (_town, rooms, fakes) = town(&[1, 2]).await;
    let items = (0..30_000).map(|n| (NodeId(n as u32 % 2 + 1), item(n))).collect();
    let results = rooms.deliver_list(items, Bytes::from_static(b"to all of you")).await;
    assert_eq!(results.len(), 30_000);
    assert!(results.into_iter().all(|result| matches!(result, Ok(Delivery::Sent))));
    for fake in fakes {
        let seen = fake.seen.lock().unwrap();
        assert!(seen.deliveries.iter().all(|request| request.payloads.len() == 1));
        assert_eq!(seen.deliveries.iter().map(|request| request.items.len()).sum::<usize>(), 15_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_nudge_has_no_payload() {
    let (_town, rooms, fakes) = town(&[1]).await;
    rooms.nudge(NodeId(1), item(5)).await.unwrap();
    let seen = fakes[0].seen.lock().unwrap();
    assert!(seen.deliveries[0].payloads.is_empty());
    assert_eq!(seen.deliveries[0].items[0].payload, None);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_gone_or_dead_is_an_error_at_once() {
    let (town, rooms, _fakes) = town(&[1]).await;
    let start = Instant::now();
    assert!(matches!(
        rooms.deliver(NodeId(9), item(1), Bytes::new()).await,
        Err(PeerError::NoNode(Role::Room))
    ));
    assert!(matches!(rooms.kick(NodeId(9), rpc::KickItem::default()).await, Err(PeerError::NoNode(_))));
    town.kill(1);
    let dead = rooms.deliver(NodeId(1), item(1), Bytes::new()).await;
    assert!(matches!(dead, Err(PeerError::Unavailable { node: Some(NodeId(1)), .. })));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn all_rooms_are_told_and_those_that_are_missed_are_named() {
    let (town, rooms, fakes) = town(&[1, 2, 3]).await;
    let told =
        join_all((1..=20).map(|bseq| rooms.broadcast(rpc::BroadcastNotice { bseq, ..Default::default() })))
            .await;
    assert!(told.iter().all(|told| told.reached == 3 && told.missed.is_empty()));
    for fake in &fakes {
        assert_eq!(fake.seen.lock().unwrap().broadcasts, (1..=20).collect::<Vec<_>>());
    }
    assert_eq!(rooms.recall(rpc::RecallNotice::default()).await.answer, 9);

    town.kill(2);
    let told = rooms.broadcast(rpc::BroadcastNotice { bseq: 21, ..Default::default() }).await;
    assert_eq!(told.reached, 2);
    assert!(matches!(told.missed.as_slice(), [(NodeId(2), PeerError::Unavailable { .. })]));
}

#[tokio::test(start_paused = true)]
async fn each_room_tells_its_progress() {
    let (_town, rooms, _fakes) = town(&[1, 2, 3]).await;
    let request = rpc::ProgressRequest { ids: vec![12, 404, 10], ..Default::default() };
    let told = rooms.progress_of(&[NodeId(1), NodeId(3), NodeId(4)], &request).await;
    let counts = |told: &rpc::ProgressResponse| -> Vec<_> {
        told.progress.iter().map(|p| (p.id, p.targets, p.sent, p.acked)).collect()
    };
    assert_eq!(told.iter().map(|(room, _)| room.0).collect::<Vec<_>>(), [1, 3, 4]);
    for (_, told) in &told[..2] {
        assert_eq!(counts(told.as_ref().unwrap()), [(10, 5, 4, 3), (12, 5, 4, 3)]);
    }
    assert!(matches!(told[2].1, Err(PeerError::NoNode(_))));
    assert!(rooms.kick(NodeId(1), rpc::KickItem { fence: 1, ..Default::default() }).await.unwrap());
    rooms.drain(NodeId(1)).await.unwrap();
}
