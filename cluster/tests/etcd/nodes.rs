//! Nodes come, are told apart, and leave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cluster::{
    Discovery, DiscoveryError, Load, MAX_NODE_ID, NodeId, NodeState, Role,
    etcd::{EtcdDiscovery, EtcdMetrics, Lost, Start},
};
use etcd_client::GetOptions;
use stores::{Data, Etcd};
use tokio::time::timeout;

use crate::harness::{LEASE, PATIENCE, client, join, join_in, options, serving, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_see_each_other_come_change_and_leave() {
    let etcd = Etcd::start().await.unwrap();
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    assert_ne!(room.me.id(), saver.me.id());
    assert!(saver.me.incarnation() > room.me.incarnation());
    assert!(saver.me.info().joined >= saver.me.incarnation().0);
    let mut picture = saver.discovery.picture();
    let both = [room.me.id().0, saver.me.id().0];
    until(&mut picture, "both", |p| serving(p) == both).await;
    // Its state is known at once, its load a little later.
    let began = Instant::now();
    room.me.set_load(Load { connections: 7, capacity: 9 });
    until(&mut picture, "load", |p| p.nodes()[0].load.connections == 7).await;
    room.me.set_load(Load { connections: 8, capacity: 9 });
    until(&mut picture, "load", |p| p.nodes()[0].load.connections == 8).await;
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    // Sooner than the next load would be told, and than its lease ends.
    let began = Instant::now();
    room.me.set_state(NodeState::Draining);
    until(&mut picture, "state", |p| p.nodes()[0].state == NodeState::Draining).await;
    assert!(began.elapsed() < Duration::from_millis(1800), "{:?}", began.elapsed());
    let began = Instant::now();
    room.discovery.leave(&room.me).await;
    until(&mut picture, "left", |p| p.nodes().len() == 1).await;
    assert!(began.elapsed() < Duration::from_millis(1800), "{:?}", began.elapsed());
    assert_eq!(*saver.discovery.lapses().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_one_nodes_and_whoever_else_wants_it_is_told_whose() {
    let etcd = Etcd::start().await.unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _room = join_in(&etcd, Role::Room, Some(5), first.path()).await;
    let began = Instant::now();
    let wanted = start(Role::Saver, Some(5), second.path());
    let refused = EtcdDiscovery::start(options(&etcd), wanted, EtcdMetrics::default()).await.err().unwrap();
    assert!(began.elapsed() >= 3 * LEASE);
    let text = refused.to_string();
    let process = std::process::id().to_string();
    assert!(text.starts_with("node id 5 is taken by a room on host") && text.contains(&process), "{text}");
    // In the same folder not even another id will do: both would be the same node.
    let wanted = start(Role::Room, Some(6), first.path());
    let refused = EtcdDiscovery::start(options(&etcd), wanted, EtcdMetrics::default()).await.err().unwrap();
    assert!(matches!(refused, DiscoveryError::InUse { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_enter_at_once_get_different_ids_and_lives() {
    let etcd = Etcd::start().await.unwrap();
    let all = futures::future::join_all((0..12).map(|_| join(&etcd, Role::Room))).await;
    let mut ids: Vec<_> = all.iter().map(|(node, _)| node.me.id()).collect();
    let mut lives: Vec<_> = all.iter().map(|(node, _)| node.me.incarnation()).collect();
    ids.sort();
    ids.dedup();
    lives.sort();
    lives.dedup();
    assert_eq!((ids.len(), lives.len()), (12, 12));
}

/// A process that was killed finds the lease of its own former life: it must not wait for that to end, and nobody else
/// may get the id meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_takes_its_own_id_over_at_once() {
    let etcd = Etcd::start().await.unwrap();
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let former = join_in(&etcd, Role::Room, None, folder.path()).await;
    let id = former.me.id();
    // The former life is frozen in a folder of its own, as a killed one would leave it in etcd.
    for name in ["room.node".to_owned(), format!("room-{id}.incarnation")] {
        std::fs::copy(folder.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let began = Instant::now();
    let heir = join_in(&etcd, Role::Room, None, copy.path()).await;
    assert_eq!(heir.me.id(), id);
    assert!(heir.me.incarnation() > former.me.incarnation());
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    // The former one, should it still be alive, finds out, and does not fight.
    let mut lost = former.discovery.lost();
    // Its next write finds that the id's key is not its own any more.
    former.me.set_state(NodeState::Draining);
    let lost = timeout(PATIENCE, lost.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    assert!(matches!(lost, Some(Lost::Twin { .. })), "{lost:?}");
    let mut picture = heir.discovery.picture();
    let life = heir.me.incarnation();
    until(&mut picture, "heir", |p| p.nodes().len() == 1 && p.nodes()[0].incarnation == life).await;
    // Another node gets another id.
    let (other, _data) = join(&etcd, Role::Room).await;
    assert_ne!(other.me.id(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_took_meanwhile_is_lost() {
    let etcd = Etcd::start().await.unwrap();
    let (room, data) = join(&etcd, Role::Room).await;
    let id = room.me.id();
    let mut lost = room.discovery.lost();
    let mut client = client(&etcd).await;
    let key = format!("/longwire/test/ids/{id}");
    let got = client.get(key.clone(), None).await.unwrap();
    let value = String::from_utf8(got.kvs()[0].value().to_vec()).unwrap();
    let owner = std::fs::read_to_string(data.path().join("room.node")).unwrap();
    let owner: serde_json::Value = serde_json::from_str(&owner).unwrap();
    let other = value.replace(owner["owner"].as_str().unwrap(), "somebody");
    client.put(key, other, None).await.unwrap();
    room.me.set_state(NodeState::Draining);
    let lost = timeout(PATIENCE, lost.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    let Some(Lost::Taken { id: taken, by }) = lost else { panic!("{lost:?}") };
    assert_eq!((taken, by.owner.as_str()), (id, "somebody"));
    assert_eq!(*room.discovery.lapses().borrow(), 1);
    // As the process does it: out, and in again as another.
    room.discovery.leave(&room.me).await;
    let again = Start { any_id: true, ..start(Role::Room, Some(id.0), data.path()) };
    let again = EtcdDiscovery::start(options(&etcd), again, EtcdMetrics::default()).await.unwrap();
    assert_ne!(again.id(), id);
    assert!(again.incarnation() > room.me.incarnation());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_etcd() {
    let etcd = Etcd::start().await.unwrap();
    etcd.member(0).kill().await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let (etcd, data) = (Arc::new(etcd), data);
    let starting = {
        let (etcd, data) = (etcd.clone(), data.path().to_owned());
        tokio::spawn(async move { join_in(&etcd, Role::Room, Some(3), &data).await.me.id() })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!starting.is_finished());
    etcd.member(0).start_again(Data::Keep).await.unwrap();
    assert_eq!(starting.await.unwrap(), NodeId(3));
}

/// An id that is free again must not be the next one given: its late owner may still be making message ids with it.
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_not_reused_soon() {
    let etcd = Etcd::start().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (node, _data) = join(&etcd, Role::Room).await;
        ids.push(node.me.id().0);
        node.discovery.leave(&node.me).await;
    }
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let left = client(&etcd).await.get("/longwire/test/ids/", Some(GetOptions::new().with_prefix())).await;
    assert!(left.unwrap().kvs().is_empty());
    assert!(ids.iter().all(|id| *id <= MAX_NODE_ID));
}
