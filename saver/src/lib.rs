//! The storage layer: inboxes, broadcast logs, ledger and app directory.
//!
//! The saver knows nothing of connections and sessions. It works over two seams: an [`inbox::InboxStore`], which holds
//! the unacked messages of each user close at hand, and an [`archive::Archive`], which holds everything that was
//! answered. [`engine::Engine`] is the work; the rest is around it: `rpc` translates, `sweep` offers again what stays
//! unacked, `cleanup` keeps the archive small.

pub mod archive;
pub mod cleanup;
pub mod config;
pub mod engine;
pub mod error;
pub mod inbox;
pub mod metrics;
pub mod model;
mod nudge;
pub mod rpc;
mod shard;
pub mod sweep;

use std::{sync::Arc, time::Duration};

use cluster::Role;
use proto::internal::saver_server::SaverServer;
use service::{Host, Service, StartError, Starting};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use archive::{Archive as _, sqlite::SqliteArchive};
use config::Config;
use engine::Engine;
use inbox::{InboxStore as _, memory::MemoryInboxes};
use metrics::{Metrics, gauge};

/// Idle inboxes are looked for this often, a part of them each time; gauges are set with it.
const UPKEEP: Duration = Duration::from_millis(500);
/// Largest request: callers batch up to 1 MiB, or one message with a long list.
const MAX_REQUEST: usize = 16 << 20;

/// The saver on embedded back ends: inboxes in this process, the archive in SQLite.
pub struct Saver {
    engine: Engine<MemoryInboxes, SqliteArchive>,
    writer: tokio::task::JoinHandle<()>,
    /// Ends what works by itself.
    background: CancellationToken,
    /// Ends the writer, after it has written what it was given.
    writing: CancellationToken,
}

impl Service for Saver {
    const ROLE: Role = Role::Saver;
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        config.check().map_err(|(key, reason)| StartError::config(key, reason))
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    fn rpc(&self) -> tonic::service::Routes {
        tonic::service::Routes::new(
            SaverServer::new(rpc::Rpc(self.engine.clone())).max_decoding_message_size(MAX_REQUEST),
        )
    }

    async fn drain(self, _: Duration) {
        self.background.cancel();
        self.writing.cancel();
        if self.writer.await.is_err() {
            warn!("the writer ended badly");
        }
        self.engine.archive().close().await;
    }
}

async fn start(config: Config, host: Host) -> Result<Saver, StartError> {
    let sqlite = config.sqlite(&host.data);
    let file = sqlite.path.display().to_string();
    let fail = |e| StartError::other(format!("archive {file}: {e}"));
    let archive = SqliteArchive::open(&sqlite).await.map_err(fail)?;
    let epoch = archive.begin_epoch().await.map_err(fail)?;
    let metrics = Metrics::default();
    host.metrics.register("saver", |registry| metrics.register(registry));
    let members = shard::Members::new(&host.cluster);
    let writing = host.cancel.child_token();
    let (engine, writer) = Engine::start(
        MemoryInboxes::new(epoch, config.memory()),
        archive,
        members.clone(),
        config.limits(),
        Arc::new(cluster::now_ms),
        metrics,
        writing.clone(),
    )
    .await
    .map_err(fail)?;
    info!(archive = file, %epoch, "saver");
    let writer = host.spawn(writer);
    let background = host.cancel.child_token();
    let nudge = nudge::PeerNudge::new(&host.cluster, &background);
    host.spawn(members.follow(host.cluster.clone(), engine.clone(), background.clone()));
    host.spawn(sweep::run(engine.clone(), nudge, config.sweep(), background.clone()));
    host.spawn(cleanup::run(engine.clone(), config.cleanup(), background.clone()));
    host.spawn(upkeep(engine.clone(), background.clone()));
    Ok(Saver { engine, writer, background, writing })
}

/// Lets go of idle inboxes and shows what is held.
async fn upkeep(engine: Engine<MemoryInboxes, SqliteArchive>, cancel: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            let metrics = engine.metrics();
            if let Ok(done) = engine.inboxes().upkeep(engine.now_ms()).await {
                metrics.inboxes_evicted.inc_by(done.evicted as u64);
            }
            let held = engine.inboxes().resident();
            let (queued, backlog) = engine.waiting();
            metrics.inboxes.set(gauge(held.inboxes));
            metrics.messages.set(gauge(held.messages));
            metrics.payload_bytes.set(gauge(held.payload_bytes));
            metrics.queue_messages.set(gauge(queued));
            metrics.backlog_messages.set(gauge(backlog));
        }
    };
    cancel.run_until_cancelled(work).await;
}
