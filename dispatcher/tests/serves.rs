//! A dispatcher on a real port, asked over HTTP and gRPC.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cluster::{
    Discovery as _, Embedded, Incarnation, Load, LocalServices, Me, NodeId, NodeState, Role, Transport,
};
use dispatcher::{Config, Dispatcher};
use proto::v1::{RouteRequest, router_client::RouterClient};
use serde_json::{Value, json};
use service::{Metrics, Node, NodeSettings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

struct World {
    discovery: Embedded,
    node: Node<Dispatcher>,
    _data: tempfile::TempDir,
}

impl World {
    async fn start() -> World {
        let data = tempfile::tempdir().unwrap();
        let settings = NodeSettings {
            id: Some(1),
            zone: "east".into(),
            data: data.path().into(),
            drain_deadline: Duration::from_secs(5),
        };
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        let discovery = Embedded::default();
        let node = Node::<Dispatcher>::start_local(
            &settings,
            config,
            Arc::new(discovery.clone()),
            LocalServices::default(),
            Metrics::default(),
        );
        World { node: node.await.unwrap(), discovery, _data: data }
    }

    async fn add_room(&self, id: u32, address: &str) -> Arc<Me> {
        let me = Arc::new(Me::new(Role::Room, NodeId(id), Incarnation(1), "east", None));
        me.set_endpoints(vec![address.to_owned()]);
        me.set_load(Load { connections: 0, capacity: 1000 });
        me.set_state(NodeState::Ready);
        self.discovery.join(me.clone()).await.unwrap();
        me
    }

    /// Status, head and JSON body.
    async fn get(&self, request: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.node.service().address()).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }

    /// Asks until the dispatcher has seen what discovery published.
    async fn get_until(&self, request: &str, status: u16) -> Value {
        loop {
            let (got, _, body) = self.get(request).await;
            if got == status {
                return body;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn answers_over_http_and_grpc_on_one_port() {
    let world = World::start().await;
    let (status, head, body) = world.get("GET /v1/route?uid=alice").await;
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(body["error"]["code"], "no_rooms");
    assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 2500));

    let room = world.add_room(2, "127.0.0.1:7002").await;
    let body = world.get_until("GET /v1/route?uid=alice&network=wifi", 200).await;
    assert_eq!(
        body,
        json!({"endpoints": [{"address": "127.0.0.1:7002", "zone": "east"}], "connect_after_ms": 0})
    );

    let address = world.node.service().address().to_string();
    let mut client = RouterClient::new(Transport::connect_lazy(&address).unwrap());
    let request = RouteRequest { uid: "alice".into(), ..RouteRequest::default() };
    let answer = client.route(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.endpoints[0].address, "127.0.0.1:7002");

    room.set_state(NodeState::Draining);
    world.get_until("GET /v1/route?uid=alice", 503).await;
    let refused = client.route(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let bad = RouteRequest { network: "6g".into(), ..RouteRequest::default() };
    assert_eq!(client.route(bad).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    drop(client);
    world.node.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn errors_name_the_field() {
    let world = World::start().await;
    let long = "u".repeat(129);
    for (query, field) in [
        (format!("uid={long}"), "uid"),
        ("uid=a&uid=b".into(), "uid"),
        ("uid=a&network=6g".into(), "network"),
        (format!("uid=a&tried={}", "h:1,".repeat(65)), "tried"),
        (format!("uid=a&tried={}", "h".repeat(300)), "tried"),
    ] {
        let (status, _, body) = world.get(&format!("GET /v1/route?{query}")).await;
        assert_eq!((status, &body["error"]["field"]), (400, &json!(field)), "{query}: {body}");
        assert_eq!(body["error"]["code"], "invalid");
    }
    assert_eq!(world.get("GET /v2/route").await.0, 404);
    assert_eq!(world.get("DELETE /v1/route").await.0, 405);
}

/// Whoever holds a connection without asking anything must not keep the process from ending.
#[tokio::test]
async fn drains_past_a_silent_connection() {
    let world = World::start().await;
    let mut silent = TcpStream::connect(world.node.service().address()).await.unwrap();
    world.get("GET /v1/route").await;
    world.node.drain(Duration::from_secs(5)).await;
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
}
