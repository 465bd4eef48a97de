//! The saver on Redis and MySQL. It keeps nothing of its own: any saver may be asked for any user.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use service::{Host, StartError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Parts, UPKEEP,
    archive::mysql::{MySqlArchive, MySqlSettings},
    cleanup,
    config::Config,
    engine::Engine,
    inbox::{
        InboxStore as _, Journaled as _,
        redis::{RedisInboxes, RedisSettings, life},
    },
    metrics::{Metrics, gauge},
    nudge, shard, sweep,
};

/// How long a start waits for MySQL.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the start of an epoch its first messages may still be on their way into the archive.
const SETTLE: Duration = Duration::from_secs(1);

type Stored = Engine<RedisInboxes, MySqlArchive>;

pub(crate) async fn start(config: Config, host: &Host) -> Result<Parts, StartError> {
    let mysql = config.mysql();
    let archive = open(&mysql).await?;
    let metrics = Metrics::default();
    host.metrics.register("saver", |registry| metrics.register(registry));
    let members = shard::Members::new(&host.cluster);
    let mine = members.clone();
    let mine: Arc<dyn Fn(u32) -> bool + Send + Sync> = Arc::new(move |partition| mine.lands(partition));
    let store = RedisInboxes::new(config.redis(host.cluster.name()), mine.clone())
        .counting(metrics.epochs_begun.clone());
    let writing = host.cancel.child_token();
    let background = host.cancel.child_token();
    let (engine, work) = Engine::start_journaled(
        store.clone(),
        archive,
        members.clone(),
        config.limits(),
        Arc::new(cluster::now_ms),
        metrics,
        mine,
        writing.clone(),
    )
    .await
    .map_err(|e| StartError::other(format!("archive {}: {e}", mysql.name())))?;
    info!(archive = mysql.name(), redis = config.redis.nodes.len(), "saver");
    let writer = host.spawn(work);
    // Redis is needed until the last line has landed.
    let keeping = host.cancel.child_token();
    let keeper = engine.clone();
    let kept = keeping.clone();
    host.spawn(async move { life::keep(keeper.inboxes().clone(), keeper.archive(), kept).await });
    let live = Arc::new(ArcSwap::from_pointee(config));
    let (sweeps, cleans) = (live.clone(), live.clone());
    let nudge = nudge::PeerNudge::new(&host.cluster, &background);
    host.spawn(members.clone().watch(host.cluster.clone(), background.clone()));
    let sweeping = move || sweeps.load().sweep();
    host.spawn(sweep::run(engine.clone(), nudge, sweeping.clone(), background.clone()));
    let parts = members.clone();
    let cleaning = move || cleans.load().cleanup();
    host.spawn(cleanup::run(engine.clone(), cleaning, move |part| parts.cleans(part), background.clone()));
    host.spawn(recover(engine.clone(), members.clone(), sweeping, background.clone()));
    host.spawn(upkeep(engine.clone(), members, background.clone()));
    let applied = engine.clone();
    let ended = engine.clone();
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
            keeping.cancel();
            ended.archive().close().await;
        }),
    })
}

/// Opens the archive, which may have been started at the same time.
async fn open(settings: &MySqlSettings) -> Result<MySqlArchive, StartError> {
    let begun = Instant::now();
    loop {
        match MySqlArchive::open(settings).await {
            Ok(archive) => return Ok(archive),
            Err(e) if begun.elapsed() < PATIENCE => {
                warn!(error = %e, archive = settings.name(), "the archive cannot be opened yet");
                // Savers that start together do not ask together.
                tokio::time::sleep(Duration::from_millis(500).mul_f64(rand::random_range(0.5..=1.0))).await;
            }
            Err(e) => return Err(StartError::other(format!("archive {}: {e}", settings.name()))),
        }
    }
}

/// After the start of an epoch: puts on watch what was stored just before, for nobody else may know of it.
async fn recover(
    engine: Stored,
    members: shard::Members,
    settings: impl Fn() -> sweep::SweepSettings,
    cancel: CancellationToken,
) {
    let work = async {
        let mut epochs = engine.inboxes().epochs();
        while epochs.changed().await.is_ok() {
            epochs.borrow_and_update();
            tokio::time::sleep(SETTLE).await;
            sweep::recover(&engine, settings(), |key| members.lands(engine.inboxes().partition_of(key)))
                .await;
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// Lets go of idle inboxes, and shows how the stores are.
async fn upkeep(engine: Stored, members: shard::Members, cancel: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            let (metrics, store) = (engine.metrics(), engine.inboxes());
            metrics.redis_up.set(i64::from(store.is_up()));
            metrics.archive_up.set(i64::from(engine.archive_works()));
            let (queued, backlog) = engine.waiting();
            metrics.queue_messages.set(gauge(queued));
            metrics.backlog_messages.set(gauge(backlog));
            let mine: Vec<u32> = (0..store.partitions()).filter(|p| members.lands(*p)).collect();
            if let Ok(lag) = store.lag(&mine).await {
                let since = lag.since_ms.map_or(0, |since| engine.now_ms().saturating_sub(since));
                metrics.journal_messages.set(gauge(lag.records as usize));
                metrics.journal_bytes.set(gauge(lag.bytes as usize));
                metrics.landing_lag_ms.set(gauge(since as usize));
            }
            if let Ok(done) = store.upkeep(engine.now_ms()).await {
                metrics.inboxes_evicted.inc_by(done.evicted as u64);
            }
        }
    };
    cancel.run_until_cancelled(work).await;
}

impl Config {
    /// How to use Redis in a cluster of this name.
    fn redis(&self, cluster: Option<&str>) -> RedisSettings {
        let redis = &self.redis;
        RedisSettings {
            nodes: redis.nodes.clone(),
            cluster: redis.cluster,
            name: redis.name.as_deref().or(cluster).unwrap_or("default").to_owned(),
            wait_replicas: redis.wait_replicas,
            partitions: redis.partitions,
            journal_records: redis.journal_messages,
            journal_bytes: redis.journal_bytes,
            ids: redis.ids,
            words: redis.idempotency_keys,
            filter_bytes: redis.idempotency_filter_bytes,
            idle: redis.idle,
            timeout: redis.timeout,
        }
    }

    pub(crate) fn mysql(&self) -> MySqlSettings {
        let mysql = &self.mysql;
        MySqlSettings { writers: mysql.writers, readers: mysql.readers, ..MySqlSettings::new(&mysql.url) }
    }
}
