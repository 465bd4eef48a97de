//! Nodes that come, go, hang and fail, and what a caller sees of it.

use std::{sync::atomic::Ordering, time::Duration};

use cluster::{NodeId, NodeState, Role, rendezvous::user_key};
use futures::future::join_all;
use proto::internal as rpc;
use tokio::time::Instant;

use super::{
    fake_saver::FakeSaver,
    fakes::{FakeCoordinator, FakeRegister},
    town::{Town, limits, settle},
};
use crate::{Coordinators, Limits, PeerError, Registers, Savers};

fn ack(n: u32) -> rpc::AckItem {
    rpc::AckItem { app: 7, uid: n.to_string(), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_is_tried_again() {
    let mut town = Town::new();
    let fake = FakeSaver::new(1);
    fake.failing.store(3, Ordering::SeqCst);
    town.add(Role::Saver, 1, fake.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    savers.ack(ack(1)).await.unwrap();
    assert_eq!(fake.seen.lock().unwrap().acks.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_role_fails_by_the_deadline() {
    let town = Town::new();
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let start = Instant::now();
    assert!(matches!(savers.ack(ack(1)).await, Err(PeerError::NoNode(Role::Saver))));
    assert!(start.elapsed() <= limits().deadline && start.elapsed() > Duration::from_secs(5));
    assert!(matches!(savers.ledger(7u32, 1).await, Err(PeerError::NoNode(Role::Saver))));
}

#[tokio::test(start_paused = true)]
async fn a_first_node_that_joins_late_is_found() {
    let mut town = Town::new();
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let waiting = tokio::spawn({
        let savers = savers.clone();
        async move { savers.ack(ack(1)).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    town.add(Role::Saver, 1, FakeSaver::new(1).routes()).await;
    waiting.await.unwrap().unwrap();
}

/// Both what waits in the queue of the node that leaves and what it was sent already.
#[tokio::test(start_paused = true)]
async fn calls_to_a_node_that_leaves_turn_to_the_new_owner() {
    let mut town = Town::new();
    let hung = FakeSaver { hangs: true, ..FakeSaver::new(1) };
    town.add(Role::Saver, 1, hung.routes()).await;
    let tight = Limits { in_flight: 1, batch_items: 10, ..limits() };
    let savers = Savers::new(&town.cluster, tight, town.cancel.clone());
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let savers = savers.clone();
            tokio::spawn(async move { savers.ack(ack(n)).await })
        })
        .collect();
    settle().await;
    let fresh = FakeSaver::new(2);
    town.add(Role::Saver, 2, fresh.routes()).await;
    town.leave(1).await;
    for result in join_all(calls).await {
        result.unwrap().unwrap();
    }
    assert_eq!(fresh.seen.lock().unwrap().acks.iter().sum::<usize>(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_an_error_at_once() {
    let mut town = Town::new();
    town.add(Role::Saver, 1, FakeSaver { hangs: true, ..FakeSaver::new(1) }.routes()).await;
    let tight = Limits { in_flight: 1, queue_items: 3, batch_items: 1, control_calls: 1, ..limits() };
    let savers = Savers::new(&town.cluster, tight, town.cancel.clone());
    let held: Vec<_> = (0..4)
        .map(|n| {
            let savers = savers.clone();
            tokio::spawn(async move {
                let held = if n == 3 { savers.apps(0).await.map(|_| ()) } else { savers.ack(ack(n)).await };
                held.is_err()
            })
        })
        .collect();
    settle().await;
    let one_more = tokio::spawn({
        let savers = savers.clone();
        async move { savers.ack(ack(9)).await.is_err() }
    });
    settle().await;
    let start = Instant::now();
    let error = savers.ack(ack(10)).await.unwrap_err();
    assert!(matches!(error, PeerError::Full(Role::Saver)), "{error}");
    assert!(matches!(savers.apps(0).await, Err(PeerError::Full(Role::Saver))));
    assert_eq!(start.elapsed(), Duration::ZERO);
    // And those that hang have their answer by the deadline.
    assert!(join_all(held).await.into_iter().all(|failed| failed.unwrap()));
    assert!(one_more.await.unwrap());
    assert!(start.elapsed() <= limits().deadline);
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_all_and_ends_all_tasks() {
    let mut town = Town::new();
    town.add(Role::Saver, 1, FakeSaver { hangs: true, ..FakeSaver::new(1) }.routes()).await;
    let tight = Limits { in_flight: 1, batch_items: 10, ..limits() };
    let savers = Savers::new(&town.cluster, tight, town.cancel.clone());
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let savers = savers.clone();
            tokio::spawn(async move { savers.ack(ack(n)).await })
        })
        .collect();
    settle().await;
    town.cancel.cancel();
    for result in join_all(calls).await {
        let error = result.unwrap().unwrap_err();
        assert!(matches!(error, PeerError::ShuttingDown), "{error}");
    }
    savers.closed().await;
    assert!(matches!(savers.ack(ack(1)).await, Err(PeerError::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn registers_answer_in_the_order_of_the_list() {
    let mut town = Town::new();
    for id in [1, 2, 3] {
        town.add(Role::Register, id, FakeRegister(id).routes()).await;
    }
    let registers = Registers::new(&town.cluster, limits(), town.cancel.clone());
    let uids: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let found = registers.look_up_list(7u32, &uids).await;
    assert_eq!(found.len(), uids.len());
    for (n, result) in found.into_iter().enumerate() {
        let result = result.unwrap();
        assert_eq!(result.conn, n as u64);
        assert_eq!(result.room, town.owner(Role::Register, user_key(7, &n.to_string())));
    }
    assert_eq!(registers.look_up(7u32, "5").await.unwrap().conn, 5);
    assert_eq!(registers.look_up_urgent(7u32, "6").await.unwrap().conn, 6);
    let settle = rpc::SettleRequest::default();
    registers.settle(NodeId(2), settle).await.unwrap();
    assert!(matches!(registers.settle(NodeId(9), settle).await, Err(PeerError::NoNode(_))));
    assert_eq!(registers.bind(rpc::BindItem { conn: 4, ..Default::default() }).await.unwrap(), 5);
    assert!(registers.unbind(rpc::UnbindItem { fence: 5, ..Default::default() }).await.unwrap());
    assert!(!registers.unbind(rpc::UnbindItem { fence: 6, ..Default::default() }).await.unwrap());
}

/// A register that does not answer costs a list its own users only.
#[tokio::test(start_paused = true)]
async fn a_list_is_answered_but_for_the_users_of_a_register_that_is_away() {
    let mut town = Town::new();
    for id in [1, 2] {
        town.add(Role::Register, id, FakeRegister(id).routes()).await;
    }
    let registers = Registers::new(&town.cluster, limits(), town.cancel.clone());
    town.kill(2);
    let uids: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    for (uid, result) in uids.iter().zip(registers.look_up_list(7u32, &uids).await) {
        assert_eq!(result.is_ok(), town.owner(Role::Register, user_key(7, uid)) == 1);
    }
    assert!(registers.look_up_list(7u32, &[""; 0]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_user_keeps_to_one_coordinator_and_moves_on_when_it_fails() {
    let mut town = Town::new();
    let fakes = [FakeCoordinator::default(), FakeCoordinator::default()];
    for (id, fake) in [1, 2].into_iter().zip(&fakes) {
        town.add(Role::Coordinator, id, fake.routes()).await;
    }
    let coordinators = Coordinators::new(&town.cluster, limits(), town.cancel.clone());
    let up = |id| coordinators.up(rpc::UpItem { app: 7, uid: "u".into(), id, ..Default::default() });
    for id in 0..10 {
        up(id).await.unwrap();
    }
    let first = fakes.iter().position(|fake| fake.ups.lock().unwrap().len() == 10).unwrap();
    let other = 1 - first;
    // Killed, but nobody has noticed; then draining, and known to be.
    town.kill(first as u32 + 1);
    assert_eq!(up(10).await.unwrap().outcome, i32::from(rpc::UpOutcome::Taken));
    town.set_state(first as u32 + 1, NodeState::Draining).await;
    let start = Instant::now();
    up(11).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(*fakes[other].ups.lock().unwrap(), [10, 11]);

    assert!(coordinators.kick(7u32, "on").await.unwrap() && !coordinators.kick(7u32, "off").await.unwrap());
    assert!(coordinators.event(rpc::StateEvent { online: true, ..Default::default() }).await.unwrap());
}
