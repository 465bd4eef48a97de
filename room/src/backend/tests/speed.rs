//! How fast a register that has lost everything is told again, with a real register: straight into it, and over gRPC on TCP.

use std::{sync::Arc, time::Duration};

use ::cluster::{
    Cluster, Discovery as _, Embedded, Incarnation, LocalServices, Me, NodeId, NodeInfo, NodeState, Picture,
    Role,
};
use peers::{Limits, PeerError, PeerMetrics, Registers};
use proto::internal as rpc;
use register::Register;
use service::{Metrics, Node, NodeSettings, Service as _};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use wire::id::{AppId, ConnId, FenceNumber, Uid};

use crate::{
    backend::{BackendLimits, Identity, Services, build},
    event_loop::{Order, Thread, ask_queues},
    exchange::{BindingKey, HeldSession},
    metrics::RoomMetrics,
};

/// The registers of a cluster, and nothing else; says when one has been settled with.
#[derive(Clone)]
struct OnlyRegisters {
    registers: Registers,
    settled: watch::Sender<u64>,
}

fn not_asked<T>() -> Result<T, PeerError> {
    Err(PeerError::ShuttingDown)
}

impl Services for OnlyRegisters {
    async fn app(&self, _: &str) -> Result<Option<Arc<rpc::App>>, PeerError> {
        not_asked()
    }
    async fn bind(&self, item: rpc::BindItem) -> Result<u64, PeerError> {
        self.registers.bind(item).await
    }
    async fn unbind(&self, item: rpc::UnbindItem) -> Result<bool, PeerError> {
        self.registers.unbind(item).await
    }
    async fn restore(
        &self,
        to: NodeId,
        request: rpc::RestoreRequest,
    ) -> Result<rpc::RestoreResponse, PeerError> {
        self.registers.restore(to, request).await
    }
    async fn settle(&self, register: NodeId, request: rpc::SettleRequest) -> Result<bool, PeerError> {
        let again = self.registers.settle(register, request).await?;
        self.settled.send_modify(|count| *count += u64::from(!again));
        Ok(again)
    }
    async fn load(&self, _: rpc::LoadItem) -> Result<rpc::LoadResult, PeerError> {
        not_asked()
    }
    async fn ack(&self, _: rpc::AckItem) -> Result<(), PeerError> {
        not_asked()
    }
    async fn heads(&self, _: &[u32]) -> Result<Vec<rpc::BroadcastHead>, PeerError> {
        not_asked()
    }
    async fn log(&self, _: rpc::LoadBroadcastsRequest) -> Result<rpc::LoadBroadcastsResponse, PeerError> {
        not_asked()
    }
    async fn up(&self, _: rpc::UpItem) -> Result<rpc::UpResult, PeerError> {
        not_asked()
    }
    async fn event(&self, _: rpc::StateEvent) -> Result<bool, PeerError> {
        not_asked()
    }
}

fn sessions(count: u32) -> Vec<HeldSession> {
    let session = |n: u32| HeldSession {
        binding: BindingKey { slot: n, generation: 1 },
        app: AppId(7),
        // 36 bytes, as a UUID has.
        uid: Uid::new(format!("{n:036}")).unwrap(),
        conn: ConnId(n.into()),
        fence: FenceNumber(1 << 32 | u64::from(n)),
    };
    (0..count).map(session).collect()
}

/// A thread that holds sessions.
fn thread_with(held: Vec<HeldSession>) -> Thread {
    let (thread, mut orders) = Thread::simulated();
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Held(from, max, reply) => {
                    let from = from as usize;
                    let to = held.len().min(from + max);
                    let next = (to < held.len()).then_some(to as u32);
                    let _ = reply.send((held[from..to].to_vec(), next));
                }
                Order::Over(_, reply) => _ = reply.send(Vec::new()),
                other => panic!("{other:?}"),
            }
        }
    });
    thread
}

/// Sessions a second from a room to a register, reached as `rpc` says.
async fn rebuild(count: u32, over_tcp: bool) -> f64 {
    let (discovery, local) = (Embedded::default(), LocalServices::default());
    let data = tempfile::tempdir().unwrap();
    let settings = NodeSettings {
        id: Some(2),
        zone: "z".into(),
        data: data.path().into(),
        drain_deadline: Duration::from_secs(5),
    };
    let start = Node::<Register>::start_local(
        &settings,
        register::Config::default(),
        Arc::new(discovery),
        local.clone(),
        Metrics::default(),
    );
    let node = start.await.unwrap();
    let mut rpc = None;
    if over_tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        rpc = Some(listener.local_addr().unwrap().to_string());
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_routes(node.service().rpc()).serve_with_incoming(incoming));
    }
    // What the room sees.
    let seen = Embedded::default();
    let register = Arc::new(Me::new(Role::Register, NodeId(2), Incarnation(1), "z", rpc));
    register.set_state(NodeState::Ready);
    let me = Arc::new(Me::new(Role::Room, NodeId(4), Incarnation(9), "z", None));
    let cluster = Cluster::new(Arc::new(seen.clone()), local, me.clone());
    seen.join(register.clone()).await.unwrap();
    let cancel = CancellationToken::new();
    let metrics = PeerMetrics::default();
    let registers = Registers::with_metrics(&cluster, Limits::default(), &metrics, cancel.clone());
    let services = OnlyRegisters { registers: registers.clone(), settled: watch::Sender::default() };
    let life = |life: u64| {
        let info = NodeInfo { incarnation: Incarnation(life), ..register.info() };
        Arc::new(Picture::new(life, vec![info]))
    };
    let pictures = watch::Sender::new(life(1));
    let (_asks, streams) = ask_queues(4);
    let (_, works) = build(
        services.clone(),
        Identity { node: 4, info: me.subscribe() },
        BackendLimits { restores_per_second: u32::MAX, ..BackendLimits::default() },
        vec![(thread_with(sessions(count)), streams)],
        RoomMetrics::default(),
        pictures.subscribe(),
        cancel.clone(),
    );
    for keeper in works.keepers {
        tokio::spawn(keeper);
    }
    services.settled.subscribe().wait_for(|count| *count > 0).await.unwrap();
    let began = Instant::now();
    pictures.send_replace(life(5));
    let last = u64::from(count - 1);
    loop {
        let found = registers.look_up(7_u32, &format!("{last:036}")).await.unwrap();
        if found.presence() == rpc::Presence::Online {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    cancel.cancel();
    node.drain(Duration::from_secs(1)).await;
    rate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_rebuild_reaches_the_register() {
    assert!(rebuild(5_000, false).await > 0.0);
    assert!(rebuild(5_000, true).await > 0.0);
}

/// `cargo nextest run --release -p room --run-ignored only rebuild_speed --no-capture`. The time until a change is acted upon
/// (50 ms) is part of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: in release, on a machine that does nothing else"]
async fn rebuild_speed() {
    for over_tcp in [false, true] {
        let rate = rebuild(1_000_000, over_tcp).await;
        println!("over TCP: {over_tcp}: {rate:.0} sessions/s");
        assert!(rate >= 300_000.0);
    }
}
