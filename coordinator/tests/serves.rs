//! A coordinator among a saver, a register and a room, called as the other services call it.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use cluster::{Cluster, Discovery as _, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use coordinator::{Config, Coordinator};
use peers::{Coordinators, Limits, Registers, Savers};
use proto::internal::{
    self as rpc, App, BindItem, KickItem, KickReason, StateEvent, UpItem, UpOutcome,
    room_server::{Room, RoomServer},
};
use serde_json::{Value, json};
use service::{Metrics, Node, NodeSettings, Service};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

/// A room that notes kicks.
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
    cluster: Cluster,
    data: tempfile::TempDir,
    cancel: CancellationToken,
}

impl World {
    fn new() -> World {
        let (discovery, local) = (Embedded::default(), LocalServices::default());
        let me = Arc::new(Me::new(Role::Center, NodeId(99), Incarnation(1), "z", None));
        let cluster = Cluster::new(Arc::new(discovery.clone()), local.clone(), me);
        let (data, cancel) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        World { discovery, local, cluster, data, cancel }
    }

    async fn start<S: Service>(&self, id: u32, config: S::Config) -> Node<S> {
        let settings = NodeSettings {
            id: Some(id),
            zone: "z".into(),
            data: self.data.path().join(id.to_string()),
            drain_deadline: Duration::from_secs(5),
        };
        let discovery = Arc::new(self.discovery.clone());
        Node::<S>::start_local(&settings, config, discovery, self.local.clone(), Metrics::default())
            .await
            .unwrap()
    }

    async fn add_room(&self, id: u32, kicks: mpsc::Sender<KickItem>) {
        self.local.insert(NodeId(id), Routes::new(RoomServer::new(Kicked(kicks))));
        let me = Arc::new(Me::new(Role::Room, NodeId(id), Incarnation(1), "z", None));
        me.set_state(NodeState::Ready);
        self.discovery.join(me).await.unwrap();
    }

    async fn put_app(&self, url: &str) -> u32 {
        let savers = Savers::new(&self.cluster, Limits::default(), self.cancel.clone());
        let app = App {
            key: "demo".into(),
            webhook_secret: "secret".into(),
            upstream_url: url.to_owned(),
            state_url: url.to_owned(),
            ..App::default()
        };
        savers.put_app(app).await.unwrap().id
    }

    fn coordinators(&self) -> Coordinators {
        Coordinators::new(&self.cluster, Limits::default(), self.cancel.clone())
    }
}

/// A backend that passes on what it gets and answers what it is told.
async fn backend(status: StatusCode) -> (String, mpsc::Receiver<Value>) {
    let (bodies, received) = mpsc::channel(100);
    let take = move |State(bodies): State<mpsc::Sender<Value>>, Json(body): Json<Value>| async move {
        bodies.send(body).await.unwrap();
        status
    };
    let app = Router::new().route("/", post(take)).with_state(bodies);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, received)
}

fn up(app: u32, id: u64) -> UpItem {
    UpItem { app, uid: "alice".into(), kind: "chat".into(), payload: "hi".into(), id, at_ms: 5 }
}

#[tokio::test]
async fn upstream_and_events_reach_the_backend() {
    let world = World::new();
    let saver = world.start::<saver::Saver>(1, Default::default()).await;
    let coordinator = world.start::<Coordinator>(3, Config::default()).await;
    let (url, mut received) = backend(StatusCode::OK).await;
    let app = world.put_app(&url).await;
    let coordinators = world.coordinators();
    let taken = coordinators.up(up(app, 7)).await.unwrap();
    assert_eq!(taken.outcome(), UpOutcome::Taken);
    let body = received.recv().await.unwrap();
    assert_eq!((&body["type"], &body["app"], &body["id"]), (&json!("up"), &json!("demo"), &json!("7")));
    let event = StateEvent { app, uid: "alice".into(), online: true, id: 8, ..StateEvent::default() };
    assert!(coordinators.event(event).await.unwrap());
    assert_eq!(received.recv().await.unwrap()["type"], "online");
    let nowhere = coordinators.up(up(app + 1, 9)).await.unwrap();
    assert_eq!(nowhere.outcome(), UpOutcome::Rejected);
    world.cancel.cancel();
    coordinator.drain(Duration::from_secs(5)).await;
    saver.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn kick_ends_the_session_that_was_meant() {
    let world = World::new();
    let _saver = world.start::<saver::Saver>(1, Default::default()).await;
    let _register = world.start::<register::Register>(2, Default::default()).await;
    let _coordinator = world.start::<Coordinator>(3, Config::default()).await;
    let (kicks, mut kicked) = mpsc::channel(8);
    world.add_room(5, kicks).await;
    let registers = Registers::new(&world.cluster, Limits::default(), world.cancel.clone());
    let bind =
        BindItem { app: 1, uid: "alice".into(), room: 5, incarnation: 1, conn: 9, ..BindItem::default() };
    let fence = registers.bind(bind).await.unwrap();
    let coordinators = world.coordinators();
    assert!(coordinators.kick(1_u32, "alice").await.unwrap());
    let kick = kicked.recv().await.unwrap();
    assert_eq!((kick.uid.as_str(), kick.fence, kick.reason()), ("alice", fence, KickReason::Kicked));
    assert!(!coordinators.kick(1_u32, "bob").await.unwrap());
}

async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn operators_see_and_replay_dead_letters() {
    let world = World::new();
    let _saver = world.start::<saver::Saver>(1, Default::default()).await;
    let mut config = Config { operators: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Config::default() };
    config.webhook.max_refusals = 1;
    let coordinator = world.start::<Coordinator>(3, config).await;
    let address = coordinator.service().operators_address().unwrap();
    let (url, mut received) = backend(StatusCode::UNPROCESSABLE_ENTITY).await;
    let app = world.put_app(&url).await;
    let taken = world.coordinators().up(up(app, 7)).await.unwrap();
    assert_eq!(taken.outcome(), UpOutcome::Taken);
    received.recv().await.unwrap();
    let letter = loop {
        let (status, mut body) = http(address, "GET", "/v1/dead-letters?app=demo", "").await;
        assert_eq!(status, 200);
        if let Some(letter) = body["dead_letters"].as_array_mut().unwrap().pop() {
            break letter;
        }
    };
    assert_eq!(
        (&letter["id"], &letter["uid"], &letter["payload"]),
        (&json!("7"), &json!("alice"), &json!("aGk="))
    );
    assert_eq!(letter["reason"], "refused: HTTP 422");
    let (status, body) = http(address, "POST", "/v1/dead-letters/replay", r#"{"app":"demo"}"#).await;
    assert_eq!((status, body), (200, json!({"replayed": 1})));
    assert_eq!(received.recv().await.unwrap()["id"], "7");

    let (status, body) = http(address, "GET", "/v1/dead-letters?app=nobody", "").await;
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["field"]),
        (404, &json!("unknown_app"), &json!("app"))
    );
    let (status, body) = http(address, "GET", "/v1/dead-letters?app=demo&limit=0", "").await;
    assert_eq!((status, &body["error"]["field"]), (400, &json!("limit")));
    world.cancel.cancel();
    coordinator.drain(Duration::from_secs(5)).await;
}
