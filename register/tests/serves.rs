//! A register, called as the other services call it, with rooms that note who is kicked.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{sync::Arc, time::Duration};

use cluster::{Cluster, Discovery as _, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use peers::{Limits, Registers};
use proto::internal::{
    self as rpc, BindItem, KickItem, KickReason, Presence, UnbindItem,
    room_server::{Room, RoomServer},
};
use register::{Config, KicksConfig, Register};
use service::{Metrics, Node, NodeSettings};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

/// A room that only notes kicks.
struct Kicked(mpsc::Sender<KickItem>);

#[tonic::async_trait]
impl Room for Kicked {
    async fn count_audience(
        &self,
        _: tonic::Request<proto::internal::CountAudienceRequest>,
    ) -> Result<tonic::Response<proto::internal::CountAudienceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("count_audience"))
    }

    async fn kick(&self, request: Request<rpc::KickRequest>) -> Result<Response<rpc::KickResponse>, Status> {
        let items = request.into_inner().items;
        let kicked = vec![true; items.len()];
        for item in items {
            self.0.send(item).await.unwrap();
        }
        Ok(Response::new(rpc::KickResponse { kicked }))
    }
    async fn deliver(
        &self,
        _: Request<rpc::DeliverRequest>,
    ) -> Result<Response<rpc::DeliverResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn broadcast(
        &self,
        _: Request<rpc::BroadcastNotice>,
    ) -> Result<Response<rpc::BroadcastNoticeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn recall(
        &self,
        _: Request<rpc::RecallNotice>,
    ) -> Result<Response<rpc::RecallNoticeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn progress(
        &self,
        _: Request<rpc::ProgressRequest>,
    ) -> Result<Response<rpc::ProgressResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Result<Response<rpc::DrainResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct World {
    discovery: Embedded,
    local: LocalServices,
    node: Node<Register>,
    registers: Registers,
    _data: tempfile::TempDir,
}

impl World {
    /// A register in its second life.
    async fn start(rooms: &[(u32, mpsc::Sender<KickItem>)]) -> World {
        World::configured(Config::default(), rooms).await
    }

    async fn configured(config: Config, rooms: &[(u32, mpsc::Sender<KickItem>)]) -> World {
        let (discovery, local) = (Embedded::default(), LocalServices::default());
        for (id, kicks) in rooms {
            add_room(&discovery, &local, *id, 1, kicks.clone()).await;
        }
        let data = tempfile::tempdir().unwrap();
        Incarnation::next(data.path(), "register-1").unwrap();
        let settings = NodeSettings {
            id: Some(1),
            zone: "z".into(),
            data: data.path().into(),
            drain_deadline: Duration::from_secs(5),
        };
        let shared: Arc<Embedded> = Arc::new(discovery.clone());
        let start = Node::<Register>::start_local(
            &settings,
            config,
            shared.clone(),
            local.clone(),
            Metrics::default(),
        );
        let node = start.await.unwrap();
        let me = Arc::new(Me::new(Role::Center, NodeId(99), Incarnation(1), "z", None));
        let cluster = Cluster::new(shared, local.clone(), me);
        let registers = Registers::new(&cluster, Limits::default(), CancellationToken::new());
        World { discovery, local, node, registers, _data: data }
    }

    async fn presence(&self, uid: &str) -> Presence {
        self.registers.look_up(1_u32, uid).await.unwrap().presence()
    }

    async fn wait_for(&self, uid: &str, presence: Presence) {
        while self.presence(uid).await != presence {
            tokio::task::yield_now().await;
        }
    }
}

async fn add_room(
    discovery: &Embedded,
    local: &LocalServices,
    id: u32,
    incarnation: u64,
    kicks: mpsc::Sender<KickItem>,
) -> Arc<Me> {
    local.insert(NodeId(id), Routes::new(RoomServer::new(Kicked(kicks))));
    let me = Arc::new(Me::new(Role::Room, NodeId(id), Incarnation(incarnation), "z", None));
    me.set_state(NodeState::Ready);
    discovery.join(me.clone()).await.unwrap();
    me
}

fn bind(uid: &str, room: u32, incarnation: u64, conn: u64) -> BindItem {
    BindItem { app: 1, uid: uid.into(), room, incarnation, conn, since_ms: 5 }
}

#[tokio::test]
async fn a_second_bind_kicks_the_first_and_a_late_unbind_does_nothing() {
    let (kicks, mut kicked) = mpsc::channel(8);
    let world = World::start(&[(2, kicks.clone()), (3, kicks)]).await;
    let first = world.registers.bind(bind("alice", 2, 1, 10)).await.unwrap();
    let second = world.registers.bind(bind("alice", 3, 1, 20)).await.unwrap();
    let kick = kicked.recv().await.unwrap();
    assert_eq!((kick.uid.as_str(), kick.fence, kick.reason()), ("alice", first, KickReason::Replaced));
    let late = UnbindItem { app: 1, uid: "alice".into(), fence: first, ..UnbindItem::default() };
    assert!(!world.registers.unbind(late).await.unwrap());
    let found = world.registers.look_up(1_u32, "alice").await.unwrap();
    assert_eq!((found.room, found.conn, found.fence, found.since_ms), (3, 20, second, 5));
    let own = UnbindItem { app: 1, uid: "alice".into(), fence: second, ..UnbindItem::default() };
    assert!(world.registers.unbind(own).await.unwrap());
    assert_ne!(world.presence("alice").await, Presence::Online);
    world.node.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_room_that_leaves_takes_its_sessions_with_it() {
    let (kicks, _kicked) = mpsc::channel(8);
    // No room tells anything here.
    let config = Config { rebuild_at_most: Duration::from_millis(100), ..Config::default() };
    let world = World::configured(config, &[]).await;
    let room = add_room(&world.discovery, &world.local, 2, 1, kicks.clone()).await;
    add_room(&world.discovery, &world.local, 3, 1, kicks.clone()).await;
    world.registers.bind(bind("alice", 2, 1, 10)).await.unwrap();
    world.registers.bind(bind("bob", 3, 1, 10)).await.unwrap();
    world.discovery.leave(&room).await;
    world.wait_for("alice", Presence::Offline).await;
    assert_eq!(world.presence("bob").await, Presence::Online);

    add_room(&world.discovery, &world.local, 2, 2, kicks).await;
    world.registers.bind(bind("alice", 2, 2, 11)).await.unwrap();
    assert_eq!(world.presence("alice").await, Presence::Online);
}

#[tokio::test]
async fn nobody_is_offline_until_the_rooms_have_told() {
    let (kicks, _kicked) = mpsc::channel(8);
    let world = World::start(&[(2, kicks)]).await;
    assert_eq!(world.presence("alice").await, Presence::Rebuilding);
    world.registers.bind(bind("alice", 2, 1, 10)).await.unwrap();
    assert_eq!(world.presence("alice").await, Presence::Online);
    let me = Arc::new(Me::new(Role::Room, NodeId(2), Incarnation(1), "z", None));
    let cluster = Cluster::new(Arc::new(world.discovery.clone()), world.local.clone(), me);
    let picture = cluster.now();
    let node = picture.of(Role::Register).next().unwrap();
    let mut client = rpc::register_client::RegisterClient::new(cluster.transport(node).unwrap());
    let nobody = rpc::RestoreRequest { room: 2, incarnation: 1, sessions: Vec::new() };
    let round = client.restore(nobody).await.unwrap().into_inner().round;
    let settle =
        |round| rpc::SettleRequest { room: 2, incarnation: 1, members: peers::membership(&picture), round };
    assert!(client.settle(settle(round - 1)).await.unwrap().into_inner().again);
    assert_eq!(world.presence("bob").await, Presence::Rebuilding);
    assert!(!client.settle(settle(round)).await.unwrap().into_inner().again);
    assert_eq!(world.presence("bob").await, Presence::Offline);

    let bad = rpc::LookUpRequest { items: vec![rpc::LookUpItem { app: 1, uid: String::new() }] };
    let refused = client.look_up(bad).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().starts_with("items[0].uid has 0 bytes"), "{}", refused.message());
}

/// When a room died and its users bound elsewhere, every worker tried for ten seconds to kick their old sessions there, and
/// the kicks to rooms that live waited behind tens of thousands of them.
#[tokio::test]
async fn kicks_to_a_room_that_is_gone_hold_up_no_other() {
    let (never_read, _stuck) = mpsc::channel(1);
    let (kicks, mut kicked) = mpsc::channel(8);
    let config = Config { kicks: KicksConfig { workers: 1, queue: 100 }, ..Config::default() };
    let world = World::configured(config, &[(3, kicks.clone()), (4, kicks)]).await;
    let dying = add_room(&world.discovery, &world.local, 2, 1, never_read).await;
    for user in ["a", "b", "c", "d"] {
        world.registers.bind(bind(user, 2, 1, 10)).await.unwrap();
        world.registers.bind(bind(user, 3, 1, 20)).await.unwrap();
    }
    world.registers.bind(bind("a", 4, 1, 30)).await.unwrap();
    dying.set_state(NodeState::Down);
    let kick = tokio::time::timeout(Duration::from_secs(4), kicked.recv()).await.unwrap().unwrap();
    assert_eq!(kick.uid, "a");
}
