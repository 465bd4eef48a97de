//! `[saver]`: where the archive is, and the bounds of everything.
//!
//! Worst-case memory on embedded stores, with the defaults: inboxes 475 B × 200,000 + messages 290 B × 500,000 + payloads 64 MiB =
//! 307 MB; what waits for the archive 3 × `queue_bytes` (as it came, in the transaction, bound to its statements) + 500 B ×
//! 20,000 = 110 MB; acks that wait 128 B × 100,000 = 13 MB; broadcasts 16 MiB; SQLite's page cache 7/4 × 16 MiB; answers
//! 2 × 8 × `load_bytes` = 128 MiB, because 8 calls read at a time and an answer is there once more when it is encoded; 16 MiB
//! for what works by itself. Together 598 MiB. (An inbox: 105 B in a hash table, its place in the eviction ring and on watch,
//! and its uid; tables and rings may be half empty.) On Redis and MySQL inboxes, messages, payloads and page cache are not
//! here; there are 30 MiB for batches and journals and 2 MiB for each connection to MySQL instead. What every process has
//! comes on top (`service::memory_bound`).

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

mod stores;

pub use stores::{Kind, MySql, Redis, Stores};

use crate::{
    archive::sqlite::SqliteSettings,
    cleanup::CleanupSettings,
    engine::{Durability, Limits, READS},
    inbox::memory::MemoryLimits,
    sweep::SweepSettings,
};

/// `[saver]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// File of the archive; a relative path is taken from the node's data folder. Savers of one cluster share the
    /// file. Default: `archive.db`.
    pub archive: PathBuf,
    /// How long a transaction waits for another process's. Default: 5 s.
    #[serde(with = "humantime_serde")]
    pub archive_busy_timeout: Duration,
    /// Page cache of the archive's writer; each of three readers has a quarter of it. Bytes. Default: 16 MiB.
    pub archive_cache_bytes: u64,
    /// Inboxes held in memory, at most 475 B each. What does not fit comes back from the archive when it is needed.
    /// Default: 200,000.
    pub inboxes: usize,
    /// Messages held in memory, at most 290 B each without payload; at least 16 times `max_inbox_cap`. Default:
    /// 500,000.
    pub messages: usize,
    /// Payloads held in memory; further ones are read from the archive. Bytes. Default: 64 MiB.
    pub payload_bytes: usize,
    /// An inbox that nobody has used for so long is let go. Default: 5 min.
    #[serde(with = "humantime_serde")]
    pub inbox_idle: Duration,
    /// Messages an inbox holds if its app says nothing; the oldest make room. Default: 1,000.
    pub default_inbox_cap: usize,
    /// Most that an app may ask for. Default: 10,000.
    pub max_inbox_cap: usize,
    /// Loads of a message without an ack before it is parked as a dead letter. Default: 32.
    pub max_loads: u32,
    /// Deliveries that wait to be written; more are refused as busy. Default: 20,000, under a second of work.
    pub queue_messages: usize,
    /// Their payloads. Bytes. Default: 32 MiB.
    pub queue_bytes: usize,
    /// Deliveries in one transaction. Default: 2,048.
    pub batch_messages: usize,
    /// Acks that wait to be written, 64 B each; more are refused as busy. Default: 100,000.
    pub backlog: usize,
    /// Payloads in the answer to one call. Bytes. Default: 8 MiB, what callers ask for at a time.
    pub load_bytes: usize,
    /// Broadcasts held for readers. Bytes. Default: 16 MiB.
    pub log_cache_bytes: usize,
    /// An inbox with a message unacked for so long is offered again if its user is online. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub sweep_after: Duration,
    /// Most such inboxes looked up in a second. Default: 5,000.
    pub sweep_per_second: usize,
    /// How long the ledger of a finished message is kept, about 100 B for each delivery. Default: 1 day.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Rows that clean-up looks at in a second. Default: 50,000.
    pub cleanup_per_second: usize,
    /// When an append is answered whose app and caller say nothing: `fast`, when Redis has it, or `safe`, when MySQL has
    /// it too. Embedded stores are always safe. Default: fast.
    pub durability: Durability,
    /// Which stores: embedded ones unless it says otherwise.
    pub stores: Stores,
    /// Redis, for `stores.kind = "cluster"`.
    pub redis: Redis,
    /// MySQL or MariaDB, for `stores.kind = "cluster"`.
    pub mysql: MySql,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            archive: "archive.db".into(),
            archive_busy_timeout: Duration::from_secs(5),
            archive_cache_bytes: 16 << 20,
            inboxes: 200_000,
            messages: 500_000,
            payload_bytes: 64 << 20,
            inbox_idle: Duration::from_secs(300),
            default_inbox_cap: limits.default_inbox_cap,
            max_inbox_cap: limits.max_inbox_cap,
            max_loads: limits.max_loads,
            queue_messages: limits.queue_messages,
            queue_bytes: limits.queue_bytes,
            batch_messages: limits.batch_messages,
            backlog: limits.backlog,
            load_bytes: limits.load_bytes,
            log_cache_bytes: limits.log_cache_bytes,
            sweep_after: Duration::from_secs(10),
            sweep_per_second: 5_000,
            retention: Duration::from_secs(24 * 3600),
            cleanup_per_second: 50_000,
            durability: Durability::Fast,
            stores: Stores::default(),
            redis: Redis::default(),
            mysql: MySql::default(),
        }
    }
}

/// A key and what is wrong with its value.
pub type Wrong = (&'static str, String);

impl Config {
    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn check(&self) -> Result<(), Wrong> {
        let positive = [
            ("saver.inboxes", self.inboxes),
            ("saver.messages", self.messages),
            ("saver.default_inbox_cap", self.default_inbox_cap),
            ("saver.max_inbox_cap", self.max_inbox_cap),
            ("saver.queue_messages", self.queue_messages),
            ("saver.queue_bytes", self.queue_bytes),
            ("saver.batch_messages", self.batch_messages),
            ("saver.backlog", self.backlog),
            ("saver.load_bytes", self.load_bytes),
            ("saver.sweep_per_second", self.sweep_per_second),
            ("saver.cleanup_per_second", self.cleanup_per_second),
            ("saver.max_loads", self.max_loads as usize),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err((key, "must be at least 1".to_owned()));
        }
        if self.messages < 16 * self.max_inbox_cap {
            let least = 16 * self.max_inbox_cap;
            return Err(("saver.messages", format!("must be at least 16 × max_inbox_cap, which is {least}")));
        }
        if self.default_inbox_cap > self.max_inbox_cap {
            return Err(("saver.default_inbox_cap", "is greater than max_inbox_cap".to_owned()));
        }
        stores::check(self.stores, &self.redis, &self.mysql)
    }

    /// The most memory that all of this allows, bytes: the formula above.
    pub(crate) fn memory_bound(&self) -> u64 {
        // What waits for the archive is there as it came, in the transaction, and bound to its statements.
        let queues =
            3 * self.queue_bytes + 500 * self.queue_messages + 128 * self.backlog + self.log_cache_bytes;
        // An answer is there as it was read, and encoded. Walks of sweeper and clean-up, and the ids of late.
        let answers = 2 * READS * self.load_bytes + (16 << 20);
        let stores = match self.stores.kind {
            Kind::Embedded => {
                475 * self.inboxes
                    + 290 * self.messages
                    + self.payload_bytes
                    + self.archive_cache_bytes as usize * 7 / 4
            }
            // Batches, journals being read, rows committed; connections with their buffers and statements.
            Kind::Cluster => (30 << 20) + (self.mysql.writers + self.mysql.readers) * (2 << 20),
        };
        (queues + stores + answers) as u64
    }

    pub(crate) fn sqlite(&self, data: &std::path::Path) -> SqliteSettings {
        SqliteSettings {
            path: data.join(&self.archive),
            cache_bytes: self.archive_cache_bytes,
            busy_timeout: self.archive_busy_timeout,
        }
    }

    pub(crate) fn memory(&self) -> MemoryLimits {
        MemoryLimits {
            inboxes: self.inboxes,
            messages: self.messages,
            payload_bytes: self.payload_bytes,
            idle_s: u32::try_from(self.inbox_idle.as_secs()).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            queue_messages: self.queue_messages,
            queue_bytes: self.queue_bytes,
            batch_messages: self.batch_messages,
            backlog: self.backlog,
            load_bytes: self.load_bytes,
            max_loads: self.max_loads,
            log_cache_bytes: self.log_cache_bytes,
            default_inbox_cap: self.default_inbox_cap,
            max_inbox_cap: self.max_inbox_cap,
            durability: self.durability,
        }
    }

    pub(crate) fn sweep(&self) -> SweepSettings {
        SweepSettings { after: self.sweep_after, per_second: self.sweep_per_second }
    }

    pub(crate) fn cleanup(&self) -> CleanupSettings {
        CleanupSettings { retention: self.retention, per_second: self.cleanup_per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_zero_does_not() {
        assert_eq!(Config::default().check(), Ok(()));
        let zero = Config { backlog: 0, ..Config::default() };
        assert_eq!(zero.check(), Err(("saver.backlog", "must be at least 1".to_owned())));
        let small = Config { messages: 10, ..Config::default() };
        assert_eq!(small.check().unwrap_err().0, "saver.messages");
    }

    #[test]
    fn the_memory_bound_is_that_of_the_documentation() {
        assert_eq!(Config::default().memory_bound() >> 20, 598, "MiB");
        let less = Config { queue_bytes: 1 << 20, ..Config::default() };
        assert_eq!(Config::default().memory_bound() - less.memory_bound(), 3 * (31 << 20));
    }

    #[test]
    fn the_cluster_needs_its_stores() {
        let mut config = Config { stores: Stores { kind: Kind::Cluster }, ..Config::default() };
        if cfg!(not(feature = "cluster-stores")) {
            return assert_eq!(config.check().unwrap_err().0, "saver.stores.kind");
        }
        assert_eq!(config.check().unwrap_err().0, "saver.redis.nodes");
        config.redis.nodes = vec!["redis://h1:6379".to_owned()];
        assert_eq!(config.check().unwrap_err().0, "saver.mysql.url");
        config.mysql.url = "mysql://u:p@h/d".to_owned();
        assert_eq!(config.check(), Ok(()));
        config.redis.name = Some("a:b".to_owned());
        assert_eq!(config.check().unwrap_err().0, "saver.redis.name");
        assert!(!format!("{config:?}").contains("u:p"));
    }
}
