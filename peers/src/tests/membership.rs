//! Nodes whose leases end: they vanish from the picture, and come back as others.

use std::time::Duration;

use cluster::{NodeState, Role};
use futures::future::join_all;
use proto::internal as rpc;
use tokio::{runtime::Handle, time::Instant};

use super::{
    fake_room::FakeRoom,
    fake_saver::FakeSaver,
    fakes::FakeRegister,
    town::{Town, limits, settle},
};
use crate::{Registers, Rooms, Savers};

fn ack(n: u32) -> rpc::AckItem {
    rpc::AckItem { app: 7, uid: n.to_string(), ..Default::default() }
}

/// A node that hangs (SIGSTOP) was waited for until the time-out of the call, seconds after its lease had ended.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_to_a_node_that_is_gone_goes_to_its_heir() {
    let mut town = Town::new();
    town.add(Role::Saver, 1, FakeSaver { hangs: true, ..FakeSaver::new(1) }.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let waiting = tokio::spawn({
        let savers = savers.clone();
        async move { savers.ack(ack(1)).await }
    });
    settle().await;
    let heir = FakeSaver::new(2);
    town.add(Role::Saver, 2, heir.routes()).await;
    let start = Instant::now();
    town.leave(1).await;
    waiting.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

/// Who waits before the next attempt at an owner that is dead goes on as soon as there is another.
#[tokio::test(start_paused = true)]
async fn a_retry_waits_no_longer_than_until_the_owner_is_another() {
    let mut town = Town::new();
    town.add(Role::Saver, 1, FakeSaver::new(1).routes()).await;
    let slow = crate::Limits {
        retry_initial: Duration::from_secs(8),
        retry_cap: Duration::from_secs(8),
        ..limits()
    };
    let savers = Savers::new(&town.cluster, slow, town.cancel.clone());
    town.kill(1);
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let savers = savers.clone();
            tokio::spawn(async move { savers.ack(ack(n)).await })
        })
        .collect();
    settle().await;
    town.add(Role::Saver, 2, FakeSaver::new(2).routes()).await;
    let start = Instant::now();
    town.leave(1).await;
    // Some have given up already: their random wait would have ended after the deadline.
    let done = join_all(calls).await.into_iter().filter(|result| matches!(result, Ok(Ok(())))).count();
    assert!(done > 20, "{done}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nodes_that_come_and_go_leave_no_task_behind() {
    let mut town = Town::new();
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let registers = Registers::new(&town.cluster, limits(), town.cancel.clone());
    let alive = || Handle::current().metrics().num_alive_tasks();
    settle().await;
    let before = alive();
    for n in 1..50 {
        town.add(Role::Saver, n, FakeSaver::new(n).routes()).await;
        town.add(Role::Register, 100 + n, FakeRegister(n).routes()).await;
        savers.ack(ack(n)).await.unwrap();
        registers.look_up(7u32, "5").await.unwrap();
        town.leave(n).await;
        town.leave(100 + n).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(alive(), before);
}

#[tokio::test(start_paused = true)]
async fn an_id_may_come_back_and_be_another_node() {
    let mut town = Town::new();
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    for life in 0..3 {
        let fake = FakeSaver::new(1);
        town.add(Role::Saver, 1, fake.routes()).await;
        savers.ack(ack(life)).await.unwrap();
        assert_eq!(fake.seen.lock().unwrap().acks, [1]);
        town.leave(1).await;
    }
}

/// A room that had devices before the center knew that it is ready heard of broadcasts only when it next compared heads.
#[tokio::test(start_paused = true)]
async fn a_broadcast_goes_to_rooms_that_are_not_ready_yet() {
    let mut town = Town::new();
    let (early, ready) = (FakeRoom::default(), FakeRoom::default());
    town.add(Role::Room, 1, early.routes()).await;
    town.add(Role::Room, 2, ready.routes()).await;
    town.set_state(1, NodeState::Starting).await;
    let rooms = Rooms::new(&town.cluster, limits(), town.cancel.clone());
    assert_eq!(rooms.broadcast(rpc::BroadcastNotice::default()).await.reached, 2);
    town.set_state(1, NodeState::Down).await;
    assert_eq!(rooms.broadcast(rpc::BroadcastNotice::default()).await.reached, 1);
}
