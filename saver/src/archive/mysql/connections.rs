//! A bounded set of connections, each with the session that the archive needs.
//!
//! A connection comes back only if its work ended in order: after an error of the network, a time-out, or when the
//! work was dropped half way, it is closed, and the server rolls back. So no transaction is ever left open in a
//! connection that others get, and after a restart of the server the next use connects anew.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, MySqlConnection, mysql::MySqlConnectOptions,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::error;
use crate::archive::{ArchiveError, ArchiveResult};

/// A connection is renewed after this, so that a name that points elsewhere now is noticed.
const LIFETIME: Duration = Duration::from_secs(600);
/// READ COMMITTED locks rows and not gaps between them, so writers seldom meet. The SQL mode is not left to the
/// server's configuration: a lenient one cuts texts short. A lock is waited for 3 s, under the time of a transaction.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 3, autocommit = 1";

/// Connections for one kind of work.
#[derive(Debug)]
pub(super) struct Connections {
    options: MySqlConnectOptions,
    /// How long to wait for a free one, and again for the server to take a new one.
    patience: Duration,
    /// The first statement of all work. It tells whether a connection that was idle still works; without one a ping
    /// does.
    first: Option<&'static str>,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Grows whenever one of them is lost: the idle ones of before are not trusted any more.
    losses: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    connection: MySqlConnection,
    made: Instant,
    losses: u64,
}

/// A connection at work. Dropped without [`Lease::give_back`], it is closed.
pub(super) struct Lease<'a> {
    pub(super) connection: MySqlConnection,
    made: Instant,
    losses: u64,
    from: &'a Connections,
    permit: SemaphorePermit<'a>,
}

impl Connections {
    pub(super) fn new(
        options: MySqlConnectOptions,
        most: usize,
        patience: Duration,
        first: Option<&'static str>,
    ) -> Self {
        Self {
            options,
            patience,
            first,
            permits: Semaphore::new(most),
            idle: Mutex::default(),
            losses: AtomicU64::new(0),
        }
    }

    /// A connection that works, and has done the first statement.
    pub(super) async fn take(&self) -> ArchiveResult<Lease<'_>> {
        let permit = timeout(self.patience, self.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else {
            let text = if self.permits.is_closed() {
                "the archive is closed".to_owned()
            } else {
                format!("every connection to MySQL was busy for {:?}", self.patience)
            };
            return Err(ArchiveError::Io(text));
        };
        while let Some(mut idle) = self.pop() {
            if idle.losses != self.losses.load(Ordering::Relaxed) || idle.made.elapsed() > LIFETIME {
                continue;
            }
            let works = async {
                match self.first {
                    Some(first) => idle.connection.execute(first).await.map(drop),
                    None => idle.connection.ping().await,
                }
            };
            if matches!(timeout(self.patience, works).await, Ok(Ok(()))) {
                let Idle { connection, made, losses } = idle;
                return Ok(Lease { connection, made, losses, from: self, permit });
            }
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        let losses = self.losses.load(Ordering::Relaxed);
        let mut connection = self.connect().await?;
        if let Some(first) = self.first {
            let begun = timeout(self.patience, connection.execute(first)).await;
            begun
                .map_err(|_| error::silent(&self.options, self.patience))?
                .map_err(|e| error::connecting(&e, &self.options))?;
        }
        Ok(Lease { connection, made: Instant::now(), losses, from: self, permit })
    }

    /// A new connection, not counted.
    pub(super) async fn connect(&self) -> ArchiveResult<MySqlConnection> {
        let connect = async {
            let mut connection = self.options.connect().await?;
            connection.execute(SESSION).await?;
            Ok(connection)
        };
        match timeout(self.patience, connect).await {
            Ok(made) => made.map_err(|e| error::connecting(&e, &self.options)),
            Err(_) => Err(error::silent(&self.options, self.patience)),
        }
    }

    /// Closes those that are not at work; the others close when their work ends.
    pub(super) async fn close(&self) {
        self.permits.close();
        while let Some(idle) = self.pop() {
            // The server notices by itself if this fails.
            let _ = timeout(self.patience, idle.connection.close()).await;
        }
    }

    /// How many were lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    fn pop(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Lease<'_> {
    /// The work ended in order.
    pub(super) fn give_back(self) {
        if self.from.permits.is_closed() {
            return;
        }
        let idle = Idle { connection: self.connection, made: self.made, losses: self.losses };
        self.from.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        drop(self.permit);
    }

    /// The server, or the way to it, failed: others of its age are of no use either.
    pub(super) fn lose(self) {
        self.from.losses.fetch_add(1, Ordering::Relaxed);
    }
}
