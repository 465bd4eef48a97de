//! The coordinator: takes upstream data and state events to the apps' backends, and ends sessions.
//!
//! Events are delivered at least once and in order for each user. Each callback of each app is a *lane* with its own
//! workers, breaker and share of memory and disk, so that a backend that is dead or slow holds up nobody else: its
//! events wait in a durable queue.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use arc_swap::ArcSwap;
use flow::FlowMetrics;
use peers::{AppDirectory, PeerMetrics, Registers, Rooms, Savers};
use proto::internal::coordinator_server::CoordinatorServer;
use service::{Host, Service, StartError, Starting};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod bounds;
mod breaker;
mod config;
mod directory;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod intake;
mod kick;
mod lane;
mod metrics;
mod operators;
mod rpc;
mod spill;
mod webhook;

pub use config::{Config, SpillConfig, WebhookConfig};
pub use webhook::{ID_HEADER, SIGNATURE_HEADER};

use intake::Intake;
use kick::Kicker;
use lane::{Lanes, Tools};
use metrics::CoordinatorMetrics;
use spill::{Spill, SqliteSpill};

/// A running coordinator.
pub struct Coordinator {
    intake: Intake,
    kicker: Kicker,
    lanes: Lanes,
    operators_address: Option<SocketAddr>,
    closing: CancellationToken,
    /// Ends when every event is either delivered or in the file.
    ended: JoinHandle<()>,
}

impl Coordinator {
    /// Where dead letters are served, if they are.
    #[must_use]
    pub fn operators_address(&self) -> Option<SocketAddr> {
        self.operators_address
    }
}

impl Service for Coordinator {
    const ROLE: cluster::Role = cluster::Role::Coordinator;
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        check(config)
    }

    fn memory_bound(config: &Config) -> u64 {
        bounds::memory_bound(config)
    }

    const LIVE: &'static [&'static str] = &[
        "direct_wait",
        "retry_after",
        "webhook.retry_initial",
        "webhook.retry_cap",
        "webhook.breaker_failures",
        "webhook.max_attempts",
        "webhook.max_refusals",
        "webhook.max_age",
        "spill.app_bytes",
        "spill.bytes",
    ];

    fn apply(&self, config: Config) {
        self.lanes.apply(config);
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    fn rpc(&self) -> tonic::service::Routes {
        tonic::service::Routes::new(CoordinatorServer::new(rpc::CoordinatorRpc {
            intake: self.intake.clone(),
            kicker: self.kicker.clone(),
            lanes: self.lanes.clone(),
        }))
    }

    async fn drain(self, _deadline: Duration) {
        self.closing.cancel();
        // It cannot panic; if it was aborted the process is ending anyway.
        let _ = self.ended.await;
    }
}

async fn start(config: Config, host: Host) -> Result<Coordinator, StartError> {
    let metrics = CoordinatorMetrics::register(&host.metrics);
    let flow = FlowMetrics::default();
    let peer_metrics = PeerMetrics::new(&flow);
    host.metrics.register("coordinator", |registry| {
        flow.register(registry);
        peer_metrics.register(registry);
    });
    let (cluster, limits) = (&host.cluster, config.peers);
    let savers = Savers::with_metrics(cluster, limits, &peer_metrics, host.cancel.clone());
    let kicker = Kicker {
        registers: Registers::with_metrics(cluster, limits, &peer_metrics, host.cancel.clone()),
        rooms: Rooms::with_metrics(cluster, limits, &peer_metrics, host.cancel.clone()),
        cancel: host.cancel.clone(),
    };
    let (directory, directory_task) = AppDirectory::start(savers.clone(), host.cancel.clone());
    let tied = (savers, kicker.registers.clone(), kicker.rooms.clone());
    host.spawn(async move {
        // The directory's own errors are in its log; here it only has to end with the node.
        let _ = directory_task.await;
        tokio::join!(tied.0.closed(), tied.1.closed(), tied.2.closed());
    });

    let path = host.data.join(format!("coordinator-{}-spill.sqlite", host.me().id()));
    let parts = lane::parts(config.workers_per_app);
    let spill_cancel = CancellationToken::new();
    let opened = SqliteSpill::open(&path, parts, config.spill.dead_letters, &flow, spill_cancel.clone());
    let (spill, spill_task) =
        opened.await.map_err(|error| StartError::other(format!("{}: {error}", path.display())))?;
    let spill: Arc<dyn Spill> = Arc::new(spill);

    let webhooks = webhook::Webhooks::new(&config.webhook, config.workers_per_app);
    let tools = Arc::new(Tools {
        spill: spill.clone(),
        webhooks: webhooks.map_err(StartError::other)?,
        targets: Arc::new(directory.clone()),
        metrics: metrics.clone(),
        spilled: AtomicI64::new(0),
        config: ArcSwap::from_pointee(config.clone()),
    });
    let (closing, workers) = (host.cancel.child_token(), TaskTracker::new());
    let lanes = Lanes::new(tools, workers.clone(), closing.clone());
    lanes.resume().await.map_err(StartError::other)?;
    let mut operators_address = None;
    if let Some(listen) = config.operators {
        let operators =
            operators::Operators { spill: spill.clone(), lanes: lanes.clone(), directory: directory.clone() };
        operators_address = Some(operators.start(listen, &host).await?);
    }
    let closed = closing.clone();
    let ended = host.spawn(async move {
        closed.cancelled().await;
        workers.close();
        workers.wait().await;
        // Only now: the workers' last act is to put what they have into the file.
        if let Err(error) = spill.flush().await {
            tracing::warn!(%error, "some events will be delivered again");
        }
        spill_cancel.cancel();
        let _ = spill_task.await;
    });
    let intake = Intake { lanes: lanes.clone(), targets: Arc::new(directory), metrics };
    Ok(Coordinator { intake, kicker, lanes, operators_address, closing, ended })
}

/// Refuses values that no type can.
fn check(config: &Config) -> Result<(), StartError> {
    let refuse = |key: &str, reason: &str| Err(StartError::config(format!("coordinator.{key}"), reason));
    if !(1..=1024).contains(&config.workers_per_app) {
        return refuse("workers_per_app", "must be 1 to 1024");
    }
    if config.memory_bytes < config.app_memory_bytes || config.app_memory_bytes < (128 << 10) {
        return refuse("app_memory_bytes", "must be at least 128 KiB and at most memory_bytes");
    }
    if config.webhook.max_attempts == 0 || config.webhook.max_refusals == 0 {
        return refuse("webhook.max_attempts", "this and max_refusals must be at least 1");
    }
    Ok(())
}
