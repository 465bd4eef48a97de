//! Savers' engines on one Redis and one MariaDB.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use saver::{
    archive::mysql::{MySqlArchive, MySqlSettings},
    engine::{AckItem, Append, Appended, Engine, Everything, Ledger, Limits, LoadItem, LoadedInbox},
    error::Refused,
    inbox::{
        InboxStore as _,
        redis::{RedisInboxes, RedisSettings, life},
    },
    metrics::Metrics,
    model::{InboxKey, Read},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, Epoch, MessageId, Position, Uid};

pub(crate) const APP: AppId = AppId(1);
pub(crate) const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;

pub(crate) type Stored = Engine<RedisInboxes, MySqlArchive>;

pub(crate) fn key(uid: &str) -> InboxKey {
    InboxKey::new(APP, Uid::new(uid).unwrap())
}

/// Ids of the tests begin here.
pub(crate) fn id(n: u64) -> u64 {
    MessageId::from_parts(NOW, 1, 0).0 + n
}

pub(crate) fn append(n: u64, uids: &[&str]) -> Append {
    Append {
        id: MessageId(id(n)),
        keys: uids.iter().map(|uid| key(uid)).collect(),
        payload: Bytes::from(format!("payload {n}")),
        accepted_ms: NOW,
        expires_ms: NOW * 2,
        inbox_cap: None,
        multicast: uids.len() > 1,
        durability: None,
        collapse: None,
    }
}

pub(crate) fn settings(nodes: Vec<String>) -> RedisSettings {
    RedisSettings {
        nodes,
        cluster: false,
        name: "test".to_owned(),
        wait_replicas: 0,
        partitions: 4,
        journal_records: 100_000,
        journal_bytes: 64 << 20,
        ids: 262_144,
        words: 65_536,
        filter_bytes: 1 << 20,
        idle: Duration::from_secs(600),
        timeout: Duration::from_secs(2),
    }
}

pub(crate) fn limits() -> Limits {
    Limits { default_inbox_cap: 10_000, max_inbox_cap: 1_000_000, max_loads: 1_000_000, ..Limits::default() }
}

pub(crate) struct Servers {
    pub(crate) redis: stores::Redis,
    pub(crate) mysql: stores::MariaDb,
    url: String,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let (redis, mysql) = tokio::join!(stores::Redis::start(), stores::MariaDb::start());
        let mysql = mysql.unwrap();
        let url = mysql.url("longwire").await.unwrap();
        Self { redis: redis.unwrap(), mysql, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn saver(&self, change: impl FnOnce(&mut Limits)) -> Saver {
        self.saver_with(|_| {}, change).await
    }

    pub(crate) async fn saver_with(
        &self,
        redis: impl FnOnce(&mut RedisSettings),
        change: impl FnOnce(&mut Limits),
    ) -> Saver {
        let mut settings = settings(vec![self.redis.url()]);
        redis(&mut settings);
        let mut limits = limits();
        change(&mut limits);
        Saver::start(settings, &self.url, limits, true).await
    }

    /// A saver that lands by itself, or only when it is asked to.
    pub(crate) async fn saver_landing(&self, lands: bool) -> Saver {
        Saver::start(settings(vec![self.redis.url()]), &self.url, limits(), lands).await
    }
}

pub(crate) struct Saver {
    pub(crate) engine: Stored,
    cancel: CancellationToken,
    keeping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Saver {
    pub(crate) async fn start(redis: RedisSettings, url: &str, limits: Limits, lands: bool) -> Self {
        let archive = MySqlArchive::open(&MySqlSettings::new(url)).await.unwrap();
        let store = RedisInboxes::new(redis, Arc::new(|_| true));
        let (cancel, keeping) = (CancellationToken::new(), CancellationToken::new());
        let (engine, work) = Engine::start_journaled(
            store,
            archive,
            Everything,
            limits,
            Arc::new(|| NOW),
            Metrics::default(),
            Arc::new(move |_| lands),
            cancel.clone(),
        )
        .await
        .unwrap();
        let (keeper, until) = (engine.clone(), keeping.clone());
        let keeper =
            tokio::spawn(async move { life::keep(keeper.inboxes().clone(), keeper.archive(), until).await });
        let saver = Self { engine, cancel, keeping, tasks: vec![tokio::spawn(work), keeper] };
        eventually(|| async { saver.engine.inboxes().is_up() }).await;
        saver
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        let mut tasks = self.tasks.into_iter();
        tasks.next().unwrap().await.unwrap();
        self.keeping.cancel();
        tasks.next().unwrap().await.unwrap();
        self.engine.archive().close().await;
    }

    pub(crate) async fn push(&self, append: Append) -> Result<Appended, Refused> {
        self.engine.append(vec![append]).await.remove(0)
    }

    pub(crate) async fn load(&self, uid: &str) -> LoadedInbox {
        self.read(uid, None).await
    }

    async fn read(&self, uid: &str, after: Option<Position>) -> LoadedInbox {
        let read = Read { after, acknowledges: false, max_messages: 100_000, max_bytes: 1 << 30 };
        for _ in 0..100 {
            match self
                .engine
                .load(vec![LoadItem {
                    key: key(uid),
                    read,
                    bind: false,
                    own_cursor: None,
                    utc_offset_min: None,
                }])
                .await
                .remove(0)
            {
                Ok(loaded) => return loaded,
                // What the last epoch left in its journals is still landing.
                Err(e) if e.code() == "inboxes_rebuilding" => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(e) => panic!("{uid}: {e}"),
            }
        }
        panic!("{uid}: the journals of the last epoch do not land");
    }

    pub(crate) async fn ids(&self, uid: &str) -> Vec<u64> {
        let loaded = self.load(uid).await;
        for message in &loaded.inbox.messages {
            let text = format!("payload {}", message.id.0 - id(0));
            assert_eq!(message.payload.as_deref(), Some(text.as_bytes()));
        }
        loaded.inbox.messages.iter().map(|m| m.id.0 - id(0)).collect()
    }

    pub(crate) async fn after(&self, uid: &str, position: Position) -> Vec<u64> {
        self.read(uid, Some(position)).await.inbox.messages.iter().map(|m| m.id.0 - id(0)).collect()
    }

    pub(crate) async fn ack(&self, uid: &str, position: Position) {
        let item = AckItem { key: key(uid), inbox: Some(position), cursor: None, credits: Vec::new() };
        self.engine.ack(vec![item]).await.unwrap();
    }

    pub(crate) async fn ledger(&self, n: u64) -> Ledger {
        self.engine.ledger(APP, MessageId(id(n))).await.unwrap()
    }

    /// Waits until the store is up in a later epoch.
    pub(crate) async fn later_than(&self, epoch: Epoch) {
        eventually(|| async { self.engine.inboxes().is_up() && self.engine.inboxes().epoch() > epoch }).await;
    }
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: impl Fn() -> F) {
    for _ in 0..400 {
        if what().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to pass within 20 s");
}
