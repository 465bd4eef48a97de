//! The center: the API that app backends call, over HTTP and gRPC on one port.
//!
//! Both are thin layers over [`ops`], which checks what is asked and turns it into calls of the savers (store),
//! registers (where is the user?), rooms (deliver) and coordinators (kick). A push is answered when it is
//! durable; the crate's `delivery` stage takes it to its room after that, and may drop it under load without
//! losing it, because the saver's sweeper finds what lies in an inbox.

pub mod auth;
mod bootstrap;
mod bounds;
pub mod config;
mod delivery;
mod entries;
pub mod error;
mod greeting;
mod http;
mod jobs;
mod limits;
mod metered;
mod metrics;
mod notices;
pub mod ops;
mod rpc;
mod scheduled;
mod server;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod testing;
mod under_way;
mod when;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cluster::Role;
use flow::FlowMetrics;
use futures::{FutureExt as _, future::BoxFuture};
use peers::PeerMetrics;
use service::{Host, Service, StartError, Starting};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use bootstrap::{First, bootstrap, new_api_key};
pub use config::Config;
#[cfg(feature = "fuzzing")]
pub use http::fuzzing;

use crate::{
    delivery::{Carriers, Delivery},
    jobs::{Jobs, Reach},
    metrics::Metrics,
    ops::{Ops, Peers},
};

/// Connections that are served this long into a drain get their answers; then they are cut.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// What was accepted last gets this long to reach its rooms; the sweeper delivers the rest.
const SETTLE: Duration = Duration::from_secs(3);

/// A running center.
pub struct Center {
    ops: Arc<Ops>,
    address: SocketAddr,
    /// Stops taking connections.
    stop: CancellationToken,
    /// Ends the stages behind the answers.
    end: CancellationToken,
    server: JoinHandle<()>,
    stages: Vec<JoinHandle<()>>,
}

impl Center {
    /// Where the API is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operations, for those who need no port.
    pub fn ops(&self) -> &Arc<Ops> {
        &self.ops
    }
}

/// HTTP and gRPC, as they are served on the API's port.
pub fn router(ops: &Arc<Ops>) -> Result<axum::Router, tonic_reflection::server::Error> {
    rpc::add_to(crate::http::router(Arc::clone(ops)), ops)
}

impl Service for Center {
    const ROLE: Role = Role::Center;
    type Config = Config;

    fn memory_bound(config: &Config) -> u64 {
        bounds::memory_bound(config)
    }

    const LIVE: &'static [&'static str] = &[
        "payload_max_bytes",
        "ttl_max",
        "schedule_ahead_max",
        "idempotency_window",
        "token_ttl_max",
        "requests_in_flight",
        "body_bytes_in_flight",
        "new_apps",
    ];

    fn apply(&self, config: Config) {
        self.ops.apply(config);
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    fn rpc(&self) -> Routes {
        self.ops.routes()
    }

    async fn drain(self, deadline: Duration) {
        // First the callers get their answers, then what they set off gets to the rooms.
        self.stop.cancel();
        let _ = tokio::time::timeout(deadline, self.server).await;
        let _ = tokio::time::timeout(SETTLE, self.ops.settled()).await;
        self.end.cancel();
        for stage in self.stages {
            let _ = stage.await;
        }
    }
}

async fn start(config: Config, host: Host) -> Result<Center, StartError> {
    begin(config, host).await
}

/// A plain function that answers a box: so the center is compiled in this crate, and not again in every program that
/// starts one.
fn begin(config: Config, host: Host) -> BoxFuture<'static, Result<Center, StartError>> {
    assemble(config, host).boxed()
}

async fn assemble(config: Config, host: Host) -> Result<Center, StartError> {
    let first = config.bootstrap.as_ref().map(|section| First::read(section, &config.new_apps));
    let first = first
        .transpose()
        .map_err(|e| StartError::config(format!("center.bootstrap.{}", e.field().unwrap_or("app")), e))?;
    let listener = TcpListener::bind(config.listen).await.map_err(|source| StartError::Listen {
        key: "center.listen".to_owned(),
        address: config.listen,
        source,
    })?;
    let address = listener.local_addr().map_err(StartError::other)?;

    let flow = FlowMetrics::default();
    let peer_metrics = PeerMetrics::new(&flow);
    let metrics = Metrics::default();
    host.metrics.register("center", |registry| {
        metrics.register(registry);
        flow.register(registry);
        peer_metrics.register(registry);
    });
    let peers = Peers::new(&host.cluster, config.peers, &peer_metrics, &host.cancel, &host.tasks);
    let end = host.cancel.child_token();
    let carriers = Carriers { registers: peers.registers.clone(), rooms: peers.rooms.clone() };
    let (delivery, mut stages) = Delivery::spawn(&config.delivery, &carriers, &metrics, &end);
    let stop = end.child_token();
    let reach = Reach {
        cluster: host.cluster.clone(),
        savers: peers.savers.clone(),
        rooms: peers.rooms.clone(),
        centers: peers.centers.clone(),
        metrics: metrics.clone(),
        clock: Arc::new(cluster::now_ms),
    };
    // What rooms were not told any more is in the logs, which they poll.
    let (jobs, runners) = Jobs::spawn(&reach, &config.broadcasts, &stop, &end);
    stages.extend(runners);
    if let Some(first) = first {
        let tries = bootstrap::bootstrap_patiently(peers.savers.clone(), first, end.clone());
        stages.push(host.spawn(tries));
    }
    let most = server::Connections { max: config.connections_max, http2_max: config.http2_connections_max };
    let ops = Arc::new(Ops::new(config, peers, host.cluster.clone(), delivery, jobs, metrics.clone()));
    let router = router(&ops).map_err(StartError::other)?;
    stages.push(host.spawn(scheduled::run(Arc::clone(&ops), stop.clone())));
    let server = host.spawn(server::serve(listener, router, most, metrics, stop.clone(), DRAIN_GRACE));
    tracing::info!(%address, "API");
    Ok(Center { ops, address, stop, end, server, stages })
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
