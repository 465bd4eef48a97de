//! What the benchmarks share: engines on stores of their own in temporary folders, and what they cost.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use saver::{
    archive::{
        Archive as _,
        sqlite::{SqliteArchive, SqliteSettings},
    },
    engine::{Engine, Everything, Limits},
    inbox::memory::{MemoryInboxes, MemoryLimits},
    metrics::Metrics,
    model::InboxKey,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, MessageId, Uid};

#[cfg(feature = "cluster-stores")]
pub(crate) mod cluster;

/// Bytes of a message.
pub(crate) const PAYLOAD: usize = 256;
/// The time, which stands still.
pub(crate) const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;
/// The app.
pub(crate) const APP: AppId = AppId(1);

/// The numbers among the arguments, with defaults.
pub(crate) fn numbers<const N: usize>(defaults: [usize; N]) -> [usize; N] {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    std::array::from_fn(|n| given.get(n).copied().unwrap_or(defaults[n]))
}

/// Whether a word is among the arguments.
pub(crate) fn is_asked(word: &str) -> bool {
    std::env::args().skip(1).any(|a| a == word)
}

/// A user's inbox.
pub(crate) fn user(n: usize) -> InboxKey {
    InboxKey::new(APP, Uid::new(format!("user-{n:08}")).unwrap())
}

/// The `n`th message of the time.
pub(crate) fn id(n: usize) -> MessageId {
    MessageId((1_000_000 << 22) + (n as u64) * 64 + 1)
}

/// The embedded pair.
pub(crate) struct Embedded {
    pub(crate) engine: Engine<MemoryInboxes, SqliteArchive>,
    writer: JoinHandle<()>,
    cancel: CancellationToken,
    folder: Arc<tempfile::TempDir>,
}

impl Embedded {
    /// On a new file.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::on(Arc::new(tempfile::tempdir()?)).await
    }

    /// Another on the same file.
    pub(crate) async fn beside(&self) -> anyhow::Result<Self> {
        Self::on(self.folder.clone()).await
    }

    /// Another life.
    pub(crate) async fn again(self) -> anyhow::Result<Self> {
        let folder = self.folder.clone();
        self.end().await?;
        Self::on(folder).await
    }

    async fn on(folder: Arc<tempfile::TempDir>) -> anyhow::Result<Self> {
        let settings = SqliteSettings {
            path: folder.path().join("archive.db"),
            cache_bytes: 16 << 20,
            busy_timeout: Duration::from_secs(5),
        };
        let archive = SqliteArchive::open(&settings).await?;
        let epoch = archive.begin_epoch().await?;
        let limits =
            MemoryLimits { inboxes: 200_000, messages: 500_000, payload_bytes: 64 << 20, idle_s: 300 };
        let cancel = CancellationToken::new();
        let (engine, writer) = Engine::start(
            MemoryInboxes::new(epoch, limits),
            archive,
            Everything,
            Limits::default(),
            Arc::new(|| NOW),
            Metrics::default(),
            cancel.clone(),
        )
        .await?;
        Ok(Self { engine, writer: tokio::spawn(writer), cancel, folder })
    }

    /// MiB of the archive's file.
    pub(crate) fn size(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(self.folder.path().join("archive.db"))?.len() >> 20)
    }

    /// Ends it; what was taken in is written.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.cancel.cancel();
        self.writer.await?;
        self.engine.archive().close().await;
        Ok(())
    }
}

/// A span of time, and the processor time of this process in it.
pub(crate) struct Span(Instant, f64);

impl Span {
    pub(crate) fn begin() -> Self {
        Self(Instant::now(), ticks(Some(std::process::id())))
    }

    /// Seconds, and µs of processor for each of so many.
    pub(crate) fn end(&self, count: usize) -> (f64, f64) {
        let ticks = ticks(Some(std::process::id())) - self.1;
        (self.0.elapsed().as_secs_f64(), ticks * 1e4 / count as f64)
    }
}

/// Processor time of a process so far, hundredths of a second.
pub(crate) fn ticks(pid: Option<u32>) -> f64 {
    let Some(pid) = pid else { return 0.0 };
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum()
}
