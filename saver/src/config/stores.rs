//! `[saver.stores]`, `[saver.redis]`, `[saver.mysql]`: where inboxes and archive are.
//!
//! With `kind = "cluster"` a saver keeps nothing: any of them can be killed, and any may be asked for any user.
//!
//! Memory of Redis at worst: for each inbox in it 250 B and for each message 100 B and its payload, which idle eviction
//! and Redis' own `maxmemory` bound; `partitions` × `journal_bytes` × 1.3; 150 B × `ids`;
//! 2 × (200 B × `idempotency_keys` + `idempotency_filter_bytes`). Set `maxmemory` with the policy
//! `noeviction`: from 85 % of it on whatever MySQL has is let go, and at it appends are refused as busy. Redis should
//! have an AOF (`appendonly yes`): without one a restart loses what was answered `fast` in the last 250 ms.
//!
//! Memory of the saver at worst, besides the queues of `[saver]`: 4 batches and a read of journals of 4 MiB each, twice
//! that in answers; 2 MiB of rows that were committed already.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::Wrong;

/// Which stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Inboxes in this process, the archive in SQLite.
    #[default]
    Embedded,
    /// Inboxes in Redis, the archive in MySQL or MariaDB.
    Cluster,
}

/// `[saver.stores]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stores {
    /// `embedded` or `cluster`. Default: embedded.
    pub kind: Kind,
}

/// `[saver.redis]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// URLs, `redis://` or `rediss://`. Of several, the one that says it is the master is used, so a fail-over is
    /// followed. Default: none.
    pub nodes: Vec<String>,
    /// The nodes are of a Redis Cluster. Default: false.
    pub cluster: bool,
    /// Name of this cluster in all keys: several can share a Redis. Default: `discovery.cluster`; `default` where there is
    /// none.
    pub name: Option<String>,
    /// Replicas that must have an append before it is answered; what a promoted replica lacks is else lost if it was
    /// `fast` and younger than 250 ms. Not with `cluster`. Default: 0.
    pub wait_replicas: u32,
    /// Partitions that the keys are spread over; each is landed by one saver. It is fixed when the store is used first.
    /// Default: 16.
    pub partitions: u32,
    /// Lines of a partition's journal that MySQL has not heard of: appends beyond are refused as busy. Default: 100,000.
    pub journal_messages: usize,
    /// Bytes of such lines. Default: 32 MiB.
    pub journal_bytes: usize,
    /// Message ids that are remembered to know repeats by; for older ones MySQL is asked. Default: 262,144.
    pub ids: usize,
    /// Idempotency keys that are kept with their message ids, twice so many at most, 200 B and the key each; for older ones
    /// MySQL is asked. Default: 65,536.
    pub idempotency_keys: usize,
    /// Filter by which a key that nobody has used is known to be new, so that class `fast` goes on without MySQL: 1.5 B for
    /// each key that is used within `center.idempotency_window`; twice so much at most. Keys that are too many for it are
    /// MySQL's alone. Bytes. Default: 16 MiB, for 11 million keys.
    pub idempotency_filter_bytes: usize,
    /// An inbox that nobody has used for so long is let go once MySQL has all of it. Default: 1 h.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// For a connection, and for an answer. Default: 2 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            cluster: false,
            name: None,
            wait_replicas: 0,
            partitions: 16,
            journal_messages: 100_000,
            journal_bytes: 32 << 20,
            ids: 262_144,
            idempotency_keys: 65_536,
            idempotency_filter_bytes: 16 << 20,
            idle: Duration::from_secs(3600),
            timeout: Duration::from_secs(2),
        }
    }
}

/// URLs hold passwords.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("nodes", &self.nodes.len())
            .field("cluster", &self.cluster)
            .field("name", &self.name)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// `[saver.mysql]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MySql {
    /// `mysql://user:password@host:port/database`. Default: none.
    pub url: String,
    /// Connections that write. Default: 4.
    pub writers: usize,
    /// Connections that read. Default: 3.
    pub readers: usize,
}

impl Default for MySql {
    fn default() -> Self {
        Self { url: String::new(), writers: 4, readers: 3 }
    }
}

/// The URL holds a password.
impl fmt::Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySql")
            .field("writers", &self.writers)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

/// Refuses what cannot work.
pub(super) fn check(stores: Stores, redis: &Redis, mysql: &MySql) -> Result<(), Wrong> {
    if stores.kind == Kind::Embedded {
        return Ok(());
    }
    if cfg!(not(feature = "cluster-stores")) {
        return Err(("saver.stores.kind", "this program was built without Redis and MySQL".to_owned()));
    }
    if redis.nodes.is_empty() {
        return Err((
            "saver.redis.nodes",
            "must name at least one Redis for stores.kind = \"cluster\"".to_owned(),
        ));
    }
    let nameless = |name: &String| name.is_empty() || name.contains(['{', '}', ':']) || name.len() > 64;
    if redis.name.as_ref().is_some_and(nameless) {
        return Err(("saver.redis.name", "must have 1 to 64 bytes, none of them { } or :".to_owned()));
    }
    if !(1..=1024).contains(&redis.partitions) {
        return Err(("saver.redis.partitions", "must be 1 to 1,024".to_owned()));
    }
    if redis.cluster && redis.wait_replicas > 0 {
        return Err(("saver.redis.wait_replicas", "is not for Redis Cluster".to_owned()));
    }
    // A string of Redis has at most 512 MiB.
    if redis.idempotency_filter_bytes / redis.partitions as usize >= 512 << 20 {
        return Err(("saver.redis.idempotency_filter_bytes", "must be under 512 MiB a partition".to_owned()));
    }
    let positive = [
        ("saver.redis.journal_messages", redis.journal_messages),
        ("saver.redis.journal_bytes", redis.journal_bytes),
        ("saver.redis.ids", redis.ids),
        ("saver.redis.idempotency_keys", redis.idempotency_keys),
        ("saver.redis.idempotency_filter_bytes", redis.idempotency_filter_bytes),
        ("saver.redis.timeout", redis.timeout.as_millis() as usize),
        ("saver.mysql.writers", mysql.writers),
        ("saver.mysql.readers", mysql.readers),
    ];
    if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
        return Err((key, "must be at least 1".to_owned()));
    }
    if mysql.url.is_empty() {
        return Err(("saver.mysql.url", "must be given for stores.kind = \"cluster\"".to_owned()));
    }
    Ok(())
}
