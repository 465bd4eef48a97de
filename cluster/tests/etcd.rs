//! Discovery against a real etcd: what happens to a node when etcd, its lease or its id goes away.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cluster::{
    Discovery, DiscoveryError, Load, MAX_NODE_ID, Me, NodeId, NodeState, Picture, Role,
    etcd::{Admin, EtcdDiscovery, EtcdError, EtcdMetrics, EtcdOptions, Lost, Start, Target},
};
use etcd_client::{Client, CompactionOptions, GetOptions};
use stores::{Data, Etcd};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

const LEASE: Duration = Duration::from_secs(2);
/// A lease ends up to a second after its time.
const PATIENCE: Duration = Duration::from_secs(20);

fn options(etcd: &Etcd) -> EtcdOptions {
    EtcdOptions { lease: LEASE, ..EtcdOptions::new(etcd.endpoints(), "test") }
}

fn start(role: Role, id: Option<u32>, data: &Path) -> Start {
    Start { role, id: id.map(NodeId), any_id: false, data: data.to_owned() }
}

/// A node that has joined.
struct Joined {
    discovery: EtcdDiscovery,
    me: Arc<Me>,
}

async fn join_in(etcd: &Etcd, role: Role, id: Option<u32>, data: &Path) -> Joined {
    let discovery = EtcdDiscovery::start(options(etcd), start(role, id, data), EtcdMetrics::default());
    let discovery = timeout(PATIENCE, discovery).await.unwrap().unwrap();
    let me = Me::new(role, discovery.id(), discovery.incarnation(), "z", Some("h:1".to_owned()));
    let me = Arc::new(me);
    me.set_state(NodeState::Ready);
    timeout(PATIENCE, discovery.join(me.clone())).await.unwrap().unwrap();
    Joined { discovery, me }
}

async fn join(etcd: &Etcd, role: Role) -> (Joined, TempDir) {
    let data = tempfile::tempdir().unwrap();
    (join_in(etcd, role, None, data.path()).await, data)
}

async fn until(picture: &mut watch::Receiver<Arc<Picture>>, what: &str, wanted: impl Fn(&Picture) -> bool) {
    let found = timeout(PATIENCE, picture.wait_for(|p| wanted(p))).await.is_ok();
    assert!(found, "not in time: {what}: {:#?}", picture.borrow());
}

fn serving(picture: &Picture) -> Vec<u32> {
    let mut ids: Vec<_> = Role::ALL.iter().flat_map(|r| picture.serving(*r)).map(|n| n.id.0).collect();
    ids.sort();
    ids
}

async fn client(etcd: &Etcd) -> Client {
    Client::connect(etcd.endpoints(), None).await.unwrap()
}

/// As if the node had been killed: its lease is not revoked, and is not kept alive either.
async fn end_lease(etcd: &Etcd, id: NodeId) {
    let mut client = client(etcd).await;
    let got = client.get(format!("/longwire/test/ids/{id}"), None).await.unwrap();
    client.lease_client().revoke(got.kvs()[0].lease()).await.unwrap();
}

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
    let began = Instant::now();
    room.me.set_state(NodeState::Draining);
    until(&mut picture, "state", |p| p.nodes()[0].state == NodeState::Draining).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let began = Instant::now();
    room.discovery.leave(&room.me).await;
    until(&mut picture, "left", |p| p.nodes().len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
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

/// A way to etcd that can be closed.
struct Cut {
    open: watch::Sender<bool>,
}

impl Cut {
    async fn new(options: &EtcdOptions) -> (EtcdOptions, Self) {
        let target = options.endpoints[0].trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        (EtcdOptions { endpoints: vec![endpoint], ..options.clone() }, Self { open })
    }

    fn close(&self) {
        self.open.send_replace(false);
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn configuration_has_a_history_and_one_writer_at_a_time() {
    let etcd = Etcd::start().await.unwrap();
    let (saver, _data) = join(&etcd, Role::Saver).await;
    let admin = Admin::connect(options(&etcd)).await.unwrap();
    let own = Target::Node(saver.me.id());
    assert_eq!(admin.config(Role::Saver, own).await.unwrap(), None);
    let first = admin.set_config(Role::Saver, own, "a = 1", "ann", Some(0)).await.unwrap();
    let stale = admin.set_config(Role::Saver, own, "a = 2", "bob", Some(0)).await;
    assert!(matches!(stale, Err(EtcdError::Conflict)), "{stale:?}");
    let second = admin.set_config(Role::Saver, own, "a = 2", "bob", Some(first)).await.unwrap();
    let mut texts = saver.discovery.config();
    let news = texts.wait_for(|t| t.as_ref().is_some_and(|t| t.revision == second));
    let news = timeout(PATIENCE, news).await.unwrap().unwrap().clone().unwrap();
    assert_eq!((news.own.unwrap().text.as_str(), news.default), ("a = 2", None));
    for n in 3..=53 {
        admin.set_config(Role::Saver, own, &format!("a = {n}"), "eve", None).await.unwrap();
    }
    let history = admin.history(Role::Saver, own).await.unwrap();
    assert_eq!((history.len(), history[0].number, history[49].number), (50, 53, 4));
    assert_eq!((history[0].text.as_str(), history[0].by.as_str()), ("a = 53", "eve"));
    assert!(admin.history(Role::Saver, Target::Default).await.unwrap().is_empty());
    let nodes = admin.nodes().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].id), (1, saver.me.id()));
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
