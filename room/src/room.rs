//! The service: starts threads and tasks, drains them.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use cluster::{Cluster, Load, Me, NodeState, Picture, Role};
use flow::FlowMetrics;
use peers::{AppDirectory, Coordinators, PeerMetrics, Registers, Savers};
use proto::internal::room_server::RoomServer;
use service::{Host, Service, StartError, Starting};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    admission::Admission,
    backend::{self, Identity, Peers},
    bounds,
    config::Config,
    event_loop::{Doors, EventLoop, Order, Thread, ask_queues, listen},
    metrics::RoomMetrics,
    orders::Orders,
    resume::Sealer,
    rpc::{Grpc, MAX_REQUEST},
};

/// Batches of one kind between a thread and the tokio side.
const ASK_BATCHES: usize = 16;
/// How often counters are collected and the load is told to the cluster.
const COLLECT: Duration = Duration::from_secs(1);
/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(20);
/// By then the cluster knows of a drain, or discovery is away; nodes of a fixed list are told at once.
const HEARD: Duration = Duration::from_millis(1_500);
/// Files that are not connections: calls between services, logs, an archive in the same process.
const SPARE_FILES: usize = 512;
/// Of the drain's time this much is kept for closing who would not leave, and for the last acks and ends.
const LAST_PART: f64 = 0.25;
/// And this much for ending the threads, so that the process need not end them the hard way.
const SPARE_PART: f64 = 0.03;

/// A running room.
pub struct Room {
    orders: Arc<Orders<Peers>>,
    threads: Vec<JoinHandle<()>>,
    /// Tasks that end when their thread has ended and all that it asked for is done.
    streams: Vec<tokio::task::JoinHandle<()>>,
    address: SocketAddr,
    /// For the threads.
    config: watch::Sender<Config>,
    admission: Arc<Admission>,
}

impl Room {
    /// Where devices connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Service for Room {
    const ROLE: Role = Role::Room;
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        config.check()
    }

    fn memory_bound(config: &Config) -> u64 {
        bounds::memory_bound(config)
    }

    const LIVE: &'static [&'static str] = &[
        "bindings_per_connection",
        "tags_per_app",
        "frames_per_second",
        "frames_burst",
        "ups_in_flight",
        "handshake_timeout",
        "first_bind_timeout",
        "slow_timeout",
        "resume",
        "resume_grace",
        "retry_after",
        "websocket",
        "admission",
        "heartbeat",
        "drain",
    ];

    fn apply(&self, config: Config) {
        self.orders.set_drain(config.drain_order());
        self.admission.set_rules(config.rules());
        self.config.send_replace(config);
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    fn rpc(&self) -> Routes {
        let server = RoomServer::new(Grpc(Arc::clone(&self.orders)));
        Routes::new(server.max_decoding_message_size(MAX_REQUEST))
    }

    async fn drain(self, deadline: Duration) {
        let began = Instant::now();
        let leave_by = began + deadline.mul_f64(1.0 - LAST_PART);
        if self.orders.start_drain().await.is_err() {
            tracing::warn!("a thread had ended before the drain");
        }
        self.wait(leave_by, |thread| thread.status().connections.load(Ordering::Relaxed) == 0).await;
        self.order(|| Order::CloseAll).await;
        // What bindings leave behind: acks, cursors, ends. A thread ends when it has handed all of it over, the streams
        // when they have done it, and then there are the offline events that the ends have set off.
        let end = began + deadline.mul_f64(1.0 - SPARE_PART);
        self.order(|| Order::Stop { now: false }).await;
        let mut done = true;
        for stream in self.streams {
            done &= timeout_at(end, stream).await.is_ok();
        }
        while self.orders.backend().is_busy() && Instant::now() < end {
            sleep(LOOK).await;
        }
        if !done || self.orders.backend().is_busy() {
            tracing::warn!("the drain's time is up; messages that were not acked will be sent again");
        }
        for thread in self.orders.threads() {
            let _ = thread.send(Order::Stop { now: true }).await;
        }
        for thread in self.threads {
            // It ends at once; joining it off the runtime costs nothing.
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a thread of connections had panicked");
            }
        }
    }
}

async fn start(config: Config, host: Host) -> Result<Room, StartError> {
    let metrics = RoomMetrics::default();
    let flow = FlowMetrics::default();
    let peer_metrics = PeerMetrics::new(&flow);
    host.metrics.register("room", |registry| {
        metrics.register(registry);
        flow.register(registry);
        peer_metrics.register(registry);
    });

    let connections = open_files(config.connections_max);
    let config = Config { connections_max: connections, ..config };
    let admission = Arc::new(Admission::new(config.rules(), connections, std::time::Instant::now()));
    let mut address = config.listen;
    let mut loops = Vec::new();
    let room = host.me().id().0;
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let doors = Doors { tls, websocket: config.websocket_door(room) };
    for number in 0..config.threads {
        let failed = |source| StartError::Listen { key: "room.listen".to_owned(), address, source };
        let listener = listen(address, config.threads, number).map_err(failed)?;
        let (asks, streams) = ask_queues(ASK_BATCHES);
        let made =
            EventLoop::new(config.setup(number as u8).with_doors(&doors), listener, asks).map_err(failed)?;
        // With port 0 the first thread's choice is the room's.
        address = made.0.address().map_err(StartError::other)?;
        let (event_loop, thread) = made;
        loops.push(((event_loop.admitting(Arc::clone(&admission)), thread), streams));
    }

    let services = connect(&config, &host, &peer_metrics);
    let identity = Identity { node: host.me().id().0, info: host.me().subscribe() };
    let handles: Vec<_> = loops.iter().map(|((_, thread), _)| thread.clone()).collect();
    let sealer = Sealer::random();
    let mut event_loops = Vec::new();
    let mut asks = Vec::new();
    for ((event_loop, thread), streams) in loops {
        event_loops.push(event_loop.resuming(sealer.clone(), &handles).in_zone(&identity.info.borrow().zone));
        asks.push((thread, streams));
    }
    let (backend, work) = backend::build(
        services,
        identity,
        config.backend(),
        asks,
        metrics.clone(),
        host.cluster.picture(),
        host.cancel.clone(),
    );
    for keeper in work.keepers {
        host.spawn(keeper);
    }
    let streams = work.streams.into_iter().map(|stream| host.spawn(stream)).collect();
    let threads = spawn(event_loops, host.me())?;
    host.spawn(collect(metrics, handles.clone(), Arc::clone(&admission), connections, host.clone()));
    host.spawn(stop_with(host.cancel.clone(), handles.clone()));
    let configs = watch::Sender::new(config.clone());
    host.spawn(rebound(configs.subscribe(), room, handles.clone(), host.cancel.clone()));
    if let Some(tls) = &doors.tls {
        service::tls::follow_public(tls, "room_tls", &host.metrics, &host.tasks, host.cancel.clone());
    }
    host.me().set_endpoints(config.endpoints(address));
    let leaving = host.cluster;
    let orders =
        Orders::new(backend, handles, config.drain_order(), move || Box::pin(leave(leaving.clone())));
    tracing::info!(%address, threads = config.threads, "devices");
    Ok(Room { orders: Arc::new(orders), threads, streams, address, config: configs, admission })
}

/// Says that the room takes nobody more, and waits until the cluster has heard it: a device that is sent away would be sent
/// back otherwise.
async fn leave(cluster: Cluster) {
    let me = cluster.me();
    me.set_state(NodeState::Draining);
    let heard = |picture: &Arc<Picture>| {
        picture.node(Role::Room, me.id()).is_none_or(|node| node.state == NodeState::Draining)
    };
    let mut pictures = cluster.picture();
    if !matches!(timeout(HEARD, pictures.wait_for(heard)).await, Ok(Ok(_))) {
        tracing::warn!(
            "the cluster does not say that it knows of the drain; devices are sent away all the same"
        );
    }
}

impl Room {
    /// Waits until something holds for every thread.
    async fn wait(&self, until: Instant, done: impl Fn(&Thread) -> bool) {
        while Instant::now() < until && !self.orders.threads().iter().all(&done) {
            sleep(LOOK).await;
        }
    }

    async fn order(&self, order: impl Fn() -> Order) {
        for thread in self.orders.threads() {
            // A thread that has ended needs no order.
            let _ = thread.send(order()).await;
        }
    }
}

fn connect(config: &Config, host: &Host, metrics: &PeerMetrics) -> Peers {
    let (cluster, cancel) = (&host.cluster, &host.cancel);
    let savers = Savers::with_metrics(cluster, config.peers, metrics, cancel.clone());
    let (apps, task) = AppDirectory::start(savers.clone(), cancel.clone());
    host.spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(%error, "the app directory ended");
        }
    });
    Peers {
        apps,
        registers: Registers::with_metrics(cluster, config.peers, metrics, cancel.clone()),
        coordinators: Coordinators::with_metrics(cluster, config.peers, metrics, cancel.clone()),
        savers,
    }
}

fn spawn(loops: Vec<EventLoop>, me: &Arc<Me>) -> Result<Vec<JoinHandle<()>>, StartError> {
    let start = |(number, event_loop): (usize, EventLoop)| {
        let leaves = Leaves(Arc::clone(me));
        std::thread::Builder::new().name(format!("room-{number}")).spawn(move || {
            let _leaves = leaves;
            if let Err(error) = event_loop.run() {
                tracing::error!(%error, number, "a thread of connections ended");
            }
        })
    };
    loops.into_iter().enumerate().map(start).collect::<Result<_, _>>().map_err(StartError::other)
}

/// A room that has lost a thread, however that came to be, takes no devices any more.
struct Leaves(Arc<Me>);

impl Drop for Leaves {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of connections panicked; the room takes no more devices");
        }
        self.0.set_state(NodeState::Draining);
    }
}

/// Brings metrics and the node's load up to date until the room ends.
async fn collect(
    metrics: RoomMetrics,
    threads: Vec<Thread>,
    admission: Arc<Admission>,
    capacity: usize,
    host: Host,
) {
    let mut tick = tokio::time::interval(COLLECT);
    let cancel = host.cancel.clone();
    while cancel.run_until_cancelled(tick.tick()).await.is_some() {
        metrics.collect(&threads);
        metrics.note(&admission);
        let connections =
            threads.iter().map(|thread| thread.status().connections.load(Ordering::Relaxed)).sum();
        host.me().set_load(Load { connections, capacity: capacity as u64 });
    }
}

/// Gives the threads other bounds when the configuration is another.
async fn rebound(
    mut configs: watch::Receiver<Config>,
    room: u32,
    threads: Vec<Thread>,
    cancel: CancellationToken,
) {
    while let Some(Ok(())) = cancel.run_until_cancelled(configs.changed()).await {
        let config = configs.borrow_and_update().clone();
        for (number, thread) in threads.iter().enumerate() {
            // One that has ended has no sessions.
            let _ = thread.send(Order::Limits(Box::new(config.setup(number as u8).limits))).await;
            let _ = thread.send(Order::WebSocket(config.websocket_door(room).map(Box::new))).await;
        }
    }
}

/// Ends the threads when the process ends without a drain.
async fn stop_with(cancel: CancellationToken, threads: Vec<Thread>) {
    cancel.cancelled().await;
    for thread in threads {
        // One that has ended already is what is wanted.
        let _ = thread.send(Order::Stop { now: true }).await;
    }
}

/// Raises the process's limit of open files as far as it goes, and gives how many connections that allows.
fn open_files(wanted: usize) -> usize {
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => usize::try_from(files).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            return wanted;
        }
    };
    let possible = files.saturating_sub(SPARE_FILES).max(1);
    if possible < wanted {
        tracing::info!(possible, wanted, "the limit of open files bounds the connections");
    }
    wanted.min(possible)
}
