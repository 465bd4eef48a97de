//! The archive on a MySQL or MariaDB server that several savers share.
//!
//! Two small sets of connections, one that writes and one that reads, both READ COMMITTED. Every group and every
//! landing is one transaction of statements with many rows. A deadlock, or a lock that is held for too long, is tried
//! again here; a server that cannot be reached is told at once as [`ArchiveError::Io`], and the next use connects
//! anew. The server's clock is never asked. What is kept where: `migrations-mysql/`.
//!
//! An error after `COMMIT` was sent leaves it open whether the group is there: `Io`, as the seam says. So does a
//! time-out: a server that hangs may go on with the transaction when it wakes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use sqlx::{Executor as _, MySqlConnection, mysql::MySqlConnectOptions};
use tracing::{debug, info};

use super::{ArchiveError, ArchiveResult};
use connections::{Connections, Lease};
use error::{Failed, Verdict};

mod broadcasts;
mod bulk;
mod commit;
mod connections;
mod credits;
mod deliveries;
mod directory;
mod error;
mod jobs;
mod log;
mod reservations;
mod rows;
mod schedule;
mod schema;
mod shared;
mod statement;
mod store;
#[cfg(test)]
mod tests;
mod walks;

/// SQL texts kept prepared per connection: about 20 kinds of statements in up to ten sizes. A statement of 512 rows
/// costs the server about a megabyte while it is kept, those of half the size half of that.
const STATEMENTS: usize = 128;
/// Begins a writer's work.
const BEGIN: Option<&str> = Some("START TRANSACTION");
/// A transaction that lost a deadlock is tried so often in all.
const TRIES: u32 = 10;
/// Longest pause before another try; the first are shorter.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Where the archive is, and what it may use.
#[derive(Clone)]
pub struct MySqlSettings {
    /// `mysql://user:password@host:port/database`; TLS by `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key`.
    pub url: String,
    /// Connections that write. Each may cost the server some 10 MB.
    pub writers: usize,
    /// Connections that read.
    pub readers: usize,
    /// How long to wait for a free connection, and for the server to take a new one.
    pub patience: Duration,
    /// How long a transaction may take.
    pub timeout: Duration,
}

impl MySqlSettings {
    /// The defaults: 4 writers, so that landing, acks and groups commit side by side and share the server's syncs; 3
    /// readers; 2 s to connect; 10 s for a transaction.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            writers: 4,
            readers: 3,
            patience: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
        }
    }

    /// Refuses a URL that cannot work.
    ///
    /// # Errors
    /// The reason, without the URL, which holds a password.
    pub fn check(&self) -> Result<(), String> {
        self.options().map(drop)
    }

    /// `host:port/database`, for people.
    pub fn name(&self) -> String {
        self.options().map_or_else(|_| "a bad URL".to_owned(), |o| error::name(&o))
    }

    fn options(&self) -> Result<MySqlConnectOptions, String> {
        if !self.url.starts_with("mysql://") && !self.url.starts_with("mariadb://") {
            return Err("must begin with mysql://".to_owned());
        }
        let options: MySqlConnectOptions = self.url.parse().map_err(|e: sqlx::Error| e.to_string())?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err("must end with the name of a database".to_owned());
        }
        // The session's SQL mode is set as a whole after connecting, and no column has a time zone.
        let options = options.pipes_as_concat(false).no_engine_substitution(false).timezone(None);
        use sqlx::ConnectOptions as _;
        Ok(options.statement_cache_capacity(STATEMENTS).disable_statement_logging())
    }
}

impl std::fmt::Debug for MySqlSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlSettings").field("server", &self.name()).finish_non_exhaustive()
    }
}

/// The archive on MySQL or MariaDB.
#[derive(Debug)]
pub struct MySqlArchive {
    writers: Connections,
    readers: Connections,
    timeout: Duration,
    retries: AtomicU64,
}

impl MySqlArchive {
    /// Connects, and brings the tables up to date; several may do so at once.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or holds an archive of a newer version.
    pub async fn open(settings: &MySqlSettings) -> ArchiveResult<Self> {
        let options = settings.options().map_err(|e| ArchiveError::Io(format!("saver.mysql.url {e}")))?;
        let archive = Self {
            writers: Connections::new(options.clone(), settings.writers.max(1), settings.patience, BEGIN),
            readers: Connections::new(options, settings.readers.max(1), settings.patience, None),
            timeout: settings.timeout,
            retries: AtomicU64::new(0),
        };
        let mut connection = archive.writers.connect().await?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_s = now.map_or(0, |now| now.as_secs());
        schema::migrate(&mut connection, now_s).await.map_err(|e| match e {
            Failed::Sql(e) => error::classify(&e),
            Failed::Refused(e) => e,
        })?;
        info!(server = settings.name(), "archive on MySQL");
        Ok(archive)
    }

    /// How often a transaction was done again because the server broke it off, since the start.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How often a connection was lost, since the start.
    pub fn losses(&self) -> u64 {
        self.writers.losses() + self.readers.losses()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }

    /// Runs `work` as one transaction, once. [`Tries`] says whether to do it again.
    async fn attempt<T>(
        &self,
        work: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, Failed>,
    ) -> Result<T, (ArchiveError, Verdict)> {
        let lease = self.writers.take().await.map_err(|e| (e, Verdict::Lost))?;
        let whole = async |c: &mut MySqlConnection| {
            let done = work(&mut *c).await?;
            c.execute("COMMIT").await?;
            Ok(done)
        };
        self.run(lease, whole, true).await
    }

    /// Runs `work`, which only reads.
    async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> ArchiveResult<T> {
        let lease = self.readers.take().await?;
        let work = async |c: &mut MySqlConnection| work(c).await.map_err(Failed::Sql);
        self.run(lease, work, false).await.map_err(|(error, _)| error)
    }

    /// Runs `work` on a connection, and decides what becomes of the connection.
    async fn run<T>(
        &self,
        mut lease: Lease<'_>,
        work: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, Failed>,
        writes: bool,
    ) -> Result<T, (ArchiveError, Verdict)> {
        let outcome = tokio::time::timeout(self.timeout, work(&mut lease.connection)).await;
        let (error, verdict) = match outcome {
            Ok(Ok(done)) => {
                lease.give_back();
                return Ok(done);
            }
            Ok(Err(Failed::Sql(e))) => (error::classify(&e), error::verdict(&e)),
            Ok(Err(Failed::Refused(e))) => (e, Verdict::Told),
            Err(_) => {
                let text = format!("MySQL did not answer within {:?}", self.timeout);
                (ArchiveError::Io(text), Verdict::Lost)
            }
        };
        if verdict == Verdict::Lost {
            lease.lose();
            return Err((error, verdict));
        }
        let rolled_back = if writes {
            let rollback = tokio::time::timeout(self.timeout, lease.connection.execute("ROLLBACK"));
            matches!(rollback.await, Ok(Ok(_)))
        } else {
            true
        };
        if rolled_back {
            lease.give_back();
        }
        Err((error, verdict))
    }
}

/// Counts the attempts at one transaction, which together take no longer than two may.
struct Tries<'a> {
    archive: &'a MySqlArchive,
    tried: u32,
    begun: Instant,
}

impl<'a> Tries<'a> {
    fn new(archive: &'a MySqlArchive) -> Self {
        Self { archive, tried: 0, begun: Instant::now() }
    }

    /// What the attempt came to; `None` after a pause if the server broke it off in favour of another, and it is to
    /// be done again.
    async fn judge<T>(&mut self, attempt: Result<T, (ArchiveError, Verdict)>) -> Option<ArchiveResult<T>> {
        self.tried += 1;
        match attempt {
            Ok(done) => Some(Ok(done)),
            Err((error, Verdict::Again))
                if self.tried < TRIES && self.begun.elapsed() < self.archive.timeout =>
            {
                debug!(%error, tried = self.tried, "a transaction is tried again");
                self.archive.retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause(self.tried)).await;
                None
            }
            Err((error, _)) => Some(Err(error)),
        }
    }
}

/// Some milliseconds, at random, and twice as many each time: those who met shall not meet again.
fn pause(tried: u32) -> Duration {
    let most = Duration::from_millis(4).saturating_mul(1 << tried.min(10)).min(LONGEST_PAUSE);
    most.mul_f64(rand::rng().random_range(0.1..1.0))
}
