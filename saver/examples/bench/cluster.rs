//! A Redis and a MariaDB of its own.

use std::{sync::Arc, time::Duration};

use saver::{
    archive::mysql::{MySqlArchive, MySqlSettings},
    engine::{Engine, Everything, Limits},
    inbox::{
        Journaled as _, Lag,
        redis::{RedisInboxes, RedisSettings, life},
    },
    metrics::Metrics,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{NOW, ticks};

/// The pair of a cluster.
pub(crate) struct Shared {
    pub(crate) engine: Engine<RedisInboxes, MySqlArchive>,
    pub(crate) redis: stores::Redis,
    pub(crate) mysql: stores::MariaDb,
    store: RedisInboxes,
    work: JoinHandle<()>,
    cancel: CancellationToken,
    keeping: CancellationToken,
}

impl Shared {
    pub(crate) async fn start(limits: Limits) -> anyhow::Result<Self> {
        let redis = stores::Redis::start().await?;
        let mysql = stores::MariaDb::start().await?;
        let archive = MySqlArchive::open(&MySqlSettings::new(mysql.url("longwire").await?)).await?;
        let settings = RedisSettings {
            nodes: vec![redis.url()],
            cluster: false,
            name: "bench".to_owned(),
            wait_replicas: 0,
            partitions: 16,
            journal_records: 200_000,
            journal_bytes: 64 << 20,
            ids: 262_144,
            words: 65_536,
            filter_bytes: 16 << 20,
            idle: Duration::from_secs(600),
            timeout: Duration::from_secs(5),
        };
        let store = RedisInboxes::new(settings, Arc::new(|_| true));
        let cancel = CancellationToken::new();
        let (engine, work) = Engine::start_journaled(
            store.clone(),
            archive,
            Everything,
            limits,
            Arc::new(|| NOW),
            Metrics::default(),
            Arc::new(|_| true),
            cancel.clone(),
        )
        .await?;
        let work = tokio::spawn(work);
        let (keeper, keeping) = (engine.clone(), CancellationToken::new());
        let kept = keeping.clone();
        tokio::spawn(async move { life::keep(keeper.inboxes().clone(), keeper.archive(), kept).await });
        while !store.is_up() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        redis.call(&["CONFIG", "RESETSTAT"]).await?;
        Ok(Self { engine, redis, mysql, store, work, cancel, keeping })
    }

    /// What has not landed.
    pub(crate) async fn lag(&self) -> Lag {
        let partitions: Vec<u32> = (0..self.store.partitions()).collect();
        self.store.lag(&partitions).await.unwrap()
    }

    /// Processor time of Redis, MariaDB and this process so far, hundredths of a second.
    pub(crate) fn ticks(&self) -> [f64; 3] {
        [self.redis.pid(), self.mysql.pid(), Some(std::process::id())].map(ticks)
    }

    /// Redis' commands: name, how often, and µs in all.
    pub(crate) async fn commands(&self) -> anyhow::Result<Vec<(String, f64, f64)>> {
        let stats = self.redis.call(&["INFO", "commandstats"]).await?;
        let of = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, rest) = rest.split_once(",usec=")?;
            Some((name.to_owned(), calls.parse().ok()?, rest.split(',').next()?.parse().ok()?))
        };
        Ok(stats.lines().filter_map(of).collect())
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.cancel.cancel();
        self.work.await?;
        self.keeping.cancel();
        Ok(())
    }
}

/// Whose processor time [`Shared::ticks`] tells.
pub(crate) const NAMES: [&str; 3] = ["Redis", "MariaDB", "engine"];
