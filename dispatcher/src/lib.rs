//! The dispatcher: tells devices where to connect.
//!
//! One port serves `GET /v1/route` and the gRPC service `Router`. The answer is a *scattered group*: several
//! addresses over different rooms, hosts and ports, in the device's zone as long as that works for it, led by the
//! room that this user always gets. In a reconnect storm it also says when to connect.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::v1::router_server::RouterServer;
use service::{Host, Service, StartError, Starting};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

mod bounds;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod http;
mod metrics;
mod port;
mod query;
mod rooms;
mod routes;
mod rpc;
mod slots;
mod strategy;
mod zones;

pub use config::{Config, Network, PortConfig, SlotsConfig, StrategyKind, ZonesConfig};
pub use error::RouteError;
pub use query::Query;
pub use rooms::{Address, Room};
pub use routes::{Endpoint, Route, Routes};
pub use strategy::{Strategy, strategy};

use metrics::DispatcherMetrics;

/// A running dispatcher.
#[derive(Debug)]
pub struct Dispatcher {
    address: SocketAddr,
    routes: Arc<Routes>,
    closing: CancellationToken,
    connections: TaskTracker,
}

/// What HTTP and gRPC share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    routes: Arc<Routes>,
    metrics: DispatcherMetrics,
}

impl Shared {
    fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        self.routes.zones().client(peer, forwarded)
    }

    fn answer(&self, query: Result<Query, RouteError>, now: Instant) -> Result<Route, RouteError> {
        let (network, tried) =
            query.as_ref().map_or(("unknown", false), |q| (q.network, !q.tried.is_empty()));
        let answer = query.and_then(|query| self.routes.route(&query, now));
        self.metrics.answered(network, tried, &answer);
        answer
    }
}

impl Dispatcher {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Service for Dispatcher {
    const ROLE: cluster::Role = cluster::Role::Dispatcher;
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        check(config)
    }

    fn memory_bound(config: &Config) -> u64 {
        bounds::memory_bound(config)
    }

    const LIVE: &'static [&'static str] =
        &["group", "strategy", "full_at", "tried_until_next_zone", "retry_after", "slots"];

    fn apply(&self, config: Config) {
        self.routes.apply(config);
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    /// No other service calls a dispatcher.
    fn rpc(&self) -> tonic::service::Routes {
        tonic::service::Routes::default()
    }

    async fn drain(self, _deadline: Duration) {
        self.closing.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

async fn start(config: Config, host: Host) -> Result<Dispatcher, StartError> {
    let fail =
        |source| StartError::Listen { key: "dispatcher.listen".to_owned(), address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let metrics = DispatcherMetrics::register(&host.metrics);
    let routes = Arc::new(Routes::new(config.clone(), &host.me().info().zone, Instant::now()));
    host.spawn(follow(routes.clone(), metrics.clone(), host.clone()));
    let shared = Shared { routes: routes.clone(), metrics: metrics.clone() };
    let closing = host.cancel.child_token();
    let connections = TaskTracker::new();
    let port = port::Port {
        listener,
        app: app(shared)?,
        config: config.port,
        metrics,
        closing: closing.clone(),
        tasks: connections.clone(),
    };
    host.spawn(port.serve());
    // The process waits for the connections as it waits for all tasks.
    let (all, cancelled) = (connections.clone(), host.cancel.clone());
    host.spawn(async move {
        cancelled.cancelled().await;
        all.close();
        all.wait().await;
    });
    info!(%address, "devices ask for routes here");
    Ok(Dispatcher { address, routes, closing, connections })
}

/// As many addresses as a device may name as tried: in a longer group it could never come to the end.
const MAX_GROUP: usize = query::MAX_TRIED;

/// Refuses values that no type can.
fn check(config: &Config) -> Result<(), StartError> {
    let refuse = |key: &str, reason| Err(StartError::config(format!("dispatcher.{key}"), reason));
    if !(1..=MAX_GROUP).contains(&config.group) {
        return refuse("group", "must be 1 to 64");
    }
    if !(config.full_at > 0.0 && config.full_at <= 1.0) {
        return refuse("full_at", "must be over 0 and at most 1");
    }
    if config.slots.per_second.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return refuse("slots.per_second", "must be over 0");
    }
    for (key, rate) in [
        ("slots.per_room", config.slots.per_room),
        ("slots.per_room_after_loss", config.slots.per_room_after_loss),
    ] {
        if !(rate > 0.0 && rate.is_finite()) {
            return refuse(key, "must be over 0");
        }
    }
    if config.port.connections == 0 {
        return refuse("port.connections", "must be at least 1");
    }
    Ok(())
}

/// HTTP and gRPC on one router.
fn app(shared: Shared) -> Result<axum::Router, StartError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .build_v1()
        .map_err(StartError::other)?;
    let grpc = tonic::service::Routes::new(
        RouterServer::new(rpc::RouterRpc(shared.clone()))
            .max_decoding_message_size(port::HEADS_BYTES as usize),
    )
    .add_service(reflection)
    .into_axum_router()
    .reset_fallback();
    Ok(grpc.merge(http::router(shared)))
}

async fn follow(routes: Arc<Routes>, metrics: DispatcherMetrics, host: Host) {
    let mut picture = host.cluster.picture();
    loop {
        let rooms = routes.follow(&picture.borrow_and_update().clone(), Instant::now());
        metrics.rooms.set(rooms as i64);
        match host.cancel.run_until_cancelled(picture.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of more addresses than fit into memory was a panic at the first question.
    #[test]
    fn a_group_has_a_bound() {
        for (group, good) in [(0, false), (1, true), (64, true), (65, false), (usize::MAX, false)] {
            assert_eq!(check(&Config { group, ..Config::default() }).is_ok(), good, "{group}");
        }
    }
}
