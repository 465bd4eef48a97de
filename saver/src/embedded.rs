//! The saver on embedded stores: inboxes in this process, the archive in SQLite.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cluster::Role;
use service::{Host, StartError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Parts, UPKEEP,
    archive::{Archive as _, sqlite::SqliteArchive},
    cleanup,
    config::Config,
    engine::Engine,
    inbox::{InboxStore as _, memory::MemoryInboxes},
    metrics::{Metrics, gauge},
    nudge, shard, sweep,
};

pub(crate) async fn start(config: Config, host: &Host) -> Result<Parts, StartError> {
    alone(&host.cluster)?;
    let sqlite = config.sqlite(&host.data);
    let file = sqlite.path.display().to_string();
    let fail = |e| StartError::other(format!("archive {file}: {e}"));
    let archive = SqliteArchive::open(&sqlite).await.map_err(fail)?;
    let epoch = archive.begin_epoch().await.map_err(fail)?;
    let metrics = Metrics::default();
    metrics.epoch_begun("start");
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
    let live = Arc::new(ArcSwap::from_pointee(config));
    let (sweeps, cleans) = (live.clone(), live.clone());
    host.spawn(members.follow(host.cluster.clone(), engine.clone(), background.clone()));
    let (swept, ends) = (engine.clone(), background.clone());
    host.spawn(async move {
        let settings = move || sweeps.load().sweep();
        let recover = sweep::recover(&swept, settings(), |key| swept.owns(key));
        if ends.run_until_cancelled(recover).await.is_some() {
            sweep::run(swept.clone(), nudge, settings, ends).await;
        }
    });
    let cleaning = move || cleans.load().cleanup();
    host.spawn(cleanup::run(engine.clone(), cleaning, |_| true, background.clone()));
    host.spawn(upkeep(engine.clone(), background.clone()));
    let (applied, ended) = (engine.clone(), engine.clone());
    Ok(Parts {
        routes: crate::routes(engine),
        apply: Box::new(move |config| {
            applied.apply(config.limits());
            live.store(Arc::new(config));
        }),
        drain: Box::pin(async move {
            background.cancel();
            writing.cancel();
            if writer.await.is_err() {
                warn!("the writer ended badly");
            }
            ended.archive().close().await;
        }),
    })
}

/// Savers with embedded stores share a file, which only a fixed list of peers says that they do.
fn alone(cluster: &cluster::Cluster) -> Result<(), StartError> {
    let (picture, own) = (cluster.now(), cluster.me().id());
    let other = picture.of(Role::Saver).find(|saver| saver.id != own);
    match other {
        Some(other) if cluster.name().is_some() => Err(StartError::config(
            "saver.stores.kind",
            format!(
                "the cluster has another saver, {}, and with embedded stores there is one: choose \"cluster\" with Redis \
                 and MySQL, or end the other",
                other.id
            ),
        )),
        _ => Ok(()),
    }
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
