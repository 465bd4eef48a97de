//! The embedded archive: one SQLite file in WAL mode, synced at every commit.
//!
//! One connection writes, guarded by a lock that is only ever contended by start-up work; a small pool reads. Two
//! processes may share the file: they take turns ([`turns`]), SQLite's own lock orders their transactions, and epochs and
//! row blocks come from counters in the file. Memory: `cache_bytes` for the writer and a quarter of it for each of the
//! readers.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use super::{ArchiveError, ArchiveResult};

mod broadcasts;
mod bulk;
mod commit;
mod credits;
mod deliveries;
mod directory;
mod error;
mod jobs;
mod log;
#[cfg(test)]
mod migration_tests;
mod newcomers;
mod schedule;
mod schema;
mod shared;
mod statement;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod walks;

/// Readers: enough that a slow ledger query does not hold up loads; each costs a thread.
const READERS: u32 = 3;
/// Between two tries to open a file that another process is opening, which takes it some milliseconds.
const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// Pages in the log before it is moved into the database: 32 MiB of 4 KiB pages, so that pages that many
/// transactions touch are moved once.
const CHECKPOINT_PAGES: &str = "8000";
/// The log file is cut back to this when it has grown beyond, in bytes.
const JOURNAL_LIMIT: &str = "67108864";
/// SQL texts kept prepared per connection: about 14 kinds of statements in up to 10 sizes, some of them with the
/// transaction's begin or end. The largest take about 150 KB, all together some megabytes.
const STATEMENTS: usize = 250;

/// Where and how the archive is kept.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The file. Its folder must exist.
    pub path: PathBuf,
    /// Page cache of the writer, bytes.
    pub cache_bytes: u64,
    /// How long to wait for another process's transaction.
    pub busy_timeout: Duration,
}

/// The embedded archive.
#[derive(Debug)]
pub struct SqliteArchive {
    options: SqliteConnectOptions,
    /// `None` after a failure that may have left the connection in doubt: the next use opens a new one.
    writer: Mutex<Option<SqliteConnection>>,
    turns: turns::Turns,
    readers: SqlitePool,
}

impl SqliteArchive {
    /// Opens the file, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no archive, or was written by a newer version.
    pub async fn open(settings: &SqliteSettings) -> ArchiveResult<Self> {
        let options = |cache_bytes: u64| {
            SqliteConnectOptions::new()
                .filename(&settings.path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(settings.busy_timeout)
                .foreign_keys(false)
                .statement_cache_capacity(STATEMENTS)
                .pragma("cache_size", format!("-{}", cache_bytes / 1024))
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
                .pragma("journal_size_limit", JOURNAL_LIMIT)
                .pragma("temp_store", "memory")
                .disable_statement_logging()
        };
        let writing = options(settings.cache_bytes);
        let writer = Self::first(&writing, settings.busy_timeout).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(settings.busy_timeout)
            .connect_lazy_with(options(settings.cache_bytes / 4).pragma("query_only", "on"));
        let turns = turns::Turns::of(&settings.path);
        Ok(Self { options: writing, writer: Mutex::new(Some(writer)), turns, readers })
    }

    /// The first connection. Savers that start together on a new file all want to put it into its journal mode, for
    /// which SQLite does not wait as it does for other locks: whoever comes second is told "locked" at once.
    async fn first(options: &SqliteConnectOptions, patience: Duration) -> ArchiveResult<SqliteConnection> {
        let deadline = Instant::now() + patience;
        loop {
            let opened = async {
                let mut connection = options.connect().await.map_err(error::classify)?;
                schema::migrate(&mut connection).await?;
                Ok(connection)
            };
            match opened.await {
                Err(ArchiveError::Locked) if Instant::now() < deadline => {
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Closes the file after moving the log into it.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(e) = writer.close().await
        {
            warn!(error = %e, "closing the archive");
        }
    }

    async fn reader(&self) -> ArchiveResult<PoolConnection<sqlx::Sqlite>> {
        self.readers.acquire().await.map_err(error::classify)
    }

    /// Runs `work` in a transaction that holds the write lock from its start, so that it cannot fail half way for
    /// want of the lock.
    async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> ArchiveResult<T> {
        let whole = async |connection: &mut SqliteConnection| {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            let done = work(&mut *connection).await?;
            sqlx::query("COMMIT").execute(&mut *connection).await?;
            Ok(done)
        };
        self.write(whole).await
    }

    /// Runs `work`, which begins and commits a transaction by itself, and rolls back what it leaves behind.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> ArchiveResult<T> {
        let mut slot = self.writer.lock().await;
        let connection = open(&mut slot, &self.options).await?;
        let _turn = self.turns.take().await;
        let result = work(&mut *connection).await;
        let error = match result {
            Ok(done) => return Ok(done),
            Err(e) => error::classify(e),
        };
        // SQLite has rolled back by itself after some errors, and then this one fails, which does not matter.
        let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
        if matches!(error, ArchiveError::Io(_) | ArchiveError::Corrupt(_)) {
            *slot = None;
        }
        Err(error)
    }
}

async fn open<'a>(
    slot: &'a mut MutexGuard<'_, Option<SqliteConnection>>,
    options: &SqliteConnectOptions,
) -> ArchiveResult<&'a mut SqliteConnection> {
    if slot.is_none() {
        **slot = Some(options.connect().await.map_err(error::classify)?);
    }
    slot.as_mut().ok_or_else(|| ArchiveError::Io("no connection".to_owned()))
}

#[cfg(test)]
impl SqliteArchive {
    /// Lets the file have so many pages (never fewer than it has); `None` is as many as it likes.
    pub(crate) async fn limit_pages(&self, pages: Option<u32>) {
        let sql = format!("PRAGMA max_page_count = {}", pages.unwrap_or(u32::MAX - 1));
        let set = async |c: &mut SqliteConnection| {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *c).await.map(drop)
        };
        self.transaction(set).await.expect("a pragma does not fail");
    }
}
