//! Leases end, and etcd goes away, hangs, forgets or comes back.

use std::time::{Duration, Instant};

use cluster::{
    Discovery, Load, NodeState, Role,
    etcd::{Admin, EtcdDiscovery, EtcdMetrics, Target},
};
use etcd_client::CompactionOptions;
use stores::{Data, Etcd};
use tokio::time::timeout;

use crate::harness::{Cut, LEASE, PATIENCE, client, end_lease, join, options, serving, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_is_counted_and_then_the_same_id_is_taken_again() {
    let etcd = Etcd::start().await.unwrap();
    let (room, _data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let id = room.me.id();
    let mut lapses = room.discovery.lapses();
    let mut picture = saver.discovery.picture();
    until(&mut picture, "both", |p| p.nodes().len() == 2).await;
    let before = room.me.info().joined;
    // Whoever follows the count must see it before the cluster sees the node again.
    let (counted, again) = tokio::join!(
        async {
            timeout(PATIENCE, lapses.wait_for(|count| *count == 1)).await.unwrap().unwrap();
            Instant::now()
        },
        async {
            end_lease(&etcd, id).await;
            until(&mut picture, "again", |p| {
                p.node(Role::Room, id).is_some_and(|n| n.joined > before && n.state == NodeState::Ready)
            })
            .await;
            Instant::now()
        }
    );
    assert!(counted <= again);
    assert_eq!(room.me.info().joined, picture.borrow().node(Role::Room, id).unwrap().joined);
    assert!(room.me.info().joined > saver.me.info().joined);
    assert_eq!(room.me.info().incarnation, room.me.incarnation());
    // And it is kept alive.
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(*lapses.borrow(), 1);
    assert_eq!(picture.borrow().nodes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_the_picture_stays_and_then_it_is_repaired() {
    let etcd = Etcd::start().await.unwrap();
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let mut picture = saver.discovery.picture();
    let both = [room.me.id().0, saver.me.id().0];
    until(&mut picture, "both", |p| serving(p) == both).await;
    etcd.member(0).kill().await.unwrap();
    room.me.set_state(NodeState::Draining);
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(serving(&picture.borrow()), both);
    assert_eq!(picture.borrow().nodes()[0].state, NodeState::Ready);
    etcd.member(0).start_again(Data::Keep).await.unwrap();
    until(&mut picture, "repaired", |p| p.nodes().first().is_some_and(|n| n.state == NodeState::Draining))
        .await;
    assert_eq!(serving(&picture.borrow()), both);
    // New ones are seen too.
    let (center, _data) = join(&etcd, Role::Center).await;
    let id = center.me.id();
    until(&mut picture, "center", |p| p.node(Role::Center, id).is_some()).await;
    // etcd gives all leases their full time again when it comes back: nobody's has ended.
    assert_eq!([*room.discovery.lapses().borrow(), *saver.discovery.lapses().borrow()], [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_etcd_lost_everything_nobody_vanishes() {
    let etcd = Etcd::start().await.unwrap();
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let admin = Admin::connect(options(&etcd)).await.unwrap();
    admin.set_config(Role::Room, Target::Default, "a = 1", "me", None).await.unwrap();
    let mut texts = room.discovery.config();
    timeout(PATIENCE, texts.wait_for(|t| t.as_ref().is_some_and(|t| t.default.is_some())))
        .await
        .unwrap()
        .unwrap();
    let both = [room.me.id().0, saver.me.id().0];
    let mut picture = saver.discovery.picture();
    until(&mut picture, "both", |p| serving(p) == both).await;
    let before = room.me.info().joined.max(saver.me.info().joined);
    let mut watched = saver.discovery.picture();
    let watching = tokio::spawn(async move {
        while watched.changed().await.is_ok() {
            let now = serving(&watched.borrow_and_update());
            assert!(both.iter().all(|id| now.contains(id)), "{now:?}");
        }
    });
    etcd.member(0).kill().await.unwrap();
    etcd.member(0).start_again(Data::Wipe).await.unwrap();
    until(&mut picture, "registered again", |p| p.nodes().iter().filter(|n| n.joined > before).count() == 2)
        .await;
    assert_eq!([*room.discovery.lapses().borrow(), *saver.discovery.lapses().borrow()], [1, 1]);
    // A node that enters now is younger than those before the loss.
    let (center, _data) = join(&etcd, Role::Center).await;
    assert!(center.me.incarnation().0 > before);
    // The grace is over, and they are still there: they are registered.
    tokio::time::sleep(2 * LEASE + Duration::from_secs(4)).await;
    assert_eq!(serving(&picture.borrow()).len(), 3);
    // What was configured stays in force.
    assert!(texts.borrow().as_ref().unwrap().default.is_some());
    watching.abort();
    assert!(watching.await.is_err_and(|e| e.is_cancelled()), "somebody vanished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_was_overtaken_by_compaction_lists_again() {
    let etcd = Etcd::start().await.unwrap();
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let id = room.me.id();
    let mut picture = saver.discovery.picture();
    until(&mut picture, "room", |p| p.node(Role::Room, id).is_some()).await;
    // While the saver cannot see etcd, the room leaves, a center comes, and all that is compacted away.
    let (blind, cut) = Cut::new(&options(&etcd)).await;
    let (watcher, _watcher_data) = {
        let data = tempfile::tempdir().unwrap();
        let discovery =
            EtcdDiscovery::start(blind, start(Role::Center, None, data.path()), EtcdMetrics::default());
        (discovery.await.unwrap(), data)
    };
    let mut seen = watcher.picture();
    until(&mut seen, "room", |p| p.node(Role::Room, id).is_some()).await;
    cut.close();
    room.discovery.leave(&room.me).await;
    let (other, _other_data) = join(&etcd, Role::Room).await;
    let mut client = client(&etcd).await;
    let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(seen.borrow().node(Role::Room, id).is_some());
    cut.open();
    let other = other.me.id();
    until(&mut seen, "listed", |p| p.node(Role::Room, other).is_some() && p.node(Role::Room, id).is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_three_may_die() {
    let etcd = Etcd::start_cluster(3, None).await.unwrap();
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let mut picture = saver.discovery.picture();
    let both = [room.me.id().0, saver.me.id().0];
    until(&mut picture, "both", |p| serving(p) == both).await;
    etcd.member(etcd.leader().await.unwrap()).kill().await.unwrap();
    room.me.set_state(NodeState::Draining);
    until(&mut picture, "draining", |p| p.nodes()[0].state == NodeState::Draining).await;
    assert_eq!(serving(&picture.borrow()), both);
    let (center, _data) = join(&etcd, Role::Center).await;
    let id = center.me.id();
    until(&mut picture, "center", |p| p.node(Role::Center, id).is_some()).await;
    assert_eq!(serving(&picture.borrow()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_is_left_for_another() {
    let etcd = Etcd::start_cluster(3, None).await.unwrap();
    let (room, _room_data) = join(&etcd, Role::Room).await;
    let (saver, _saver_data) = join(&etcd, Role::Saver).await;
    let mut picture = saver.discovery.picture();
    until(&mut picture, "both", |p| p.nodes().len() == 2).await;
    for n in 0..3 {
        etcd.member(n).server().pause().unwrap();
        room.me.set_load(Load { connections: n as u64 + 1, capacity: 9 });
        until(&mut picture, "load", |p| p.nodes()[0].load.connections == n as u64 + 1).await;
        etcd.member(n).server().resume().unwrap();
        // Until it has caught up.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
