//! The store on a real Redis: what every store does, and its own.

use tokio::sync::OnceCell;

use super::*;
use crate::{
    inbox::{
        Record,
        conformance::{self, Bench, at, key, seqs, staging},
    },
    model::Staging,
};

const NOW: u64 = 1_000_000;

/// A store on a server of its own.
struct Rig {
    store: RedisInboxes,
    _servers: Servers,
    told: tokio::sync::Mutex<()>,
}

enum Servers {
    Single(stores::Redis),
    Cluster(stores::RedisCluster),
}

fn settings(nodes: Vec<String>, cluster: bool) -> RedisSettings {
    RedisSettings {
        nodes,
        cluster,
        name: "test".to_owned(),
        wait_replicas: 0,
        partitions: 4,
        journal_records: 100_000,
        journal_bytes: 64 << 20,
        ids: 4_000,
        idle: Duration::from_secs(60),
        timeout: Duration::from_secs(2),
    }
}

impl Rig {
    async fn on(servers: Servers, change: impl FnOnce(&mut RedisSettings)) -> Self {
        let mut settings = match &servers {
            Servers::Single(redis) => settings(vec![redis.url()], false),
            Servers::Cluster(cluster) => settings(cluster.urls(), true),
        };
        change(&mut settings);
        let rig = Self {
            store: RedisInboxes::new(settings, Arc::new(|_| true)),
            _servers: servers,
            told: tokio::sync::Mutex::default(),
        };
        rig.store.stand_alone(Epoch(5)).await;
        rig
    }

    async fn single(change: impl FnOnce(&mut RedisSettings)) -> Self {
        Self::on(Servers::Single(stores::Redis::start().await.unwrap()), change).await
    }

    async fn place(&self, items: Vec<Staging>) -> Vec<InboxResult<Placed>> {
        let entries = items.into_iter().map(|staging| Entry { staging, multicast: false, checked: false });
        self.store.append(&entries.collect::<Vec<_>>(), NOW).await
    }

    fn all(&self) -> Vec<u32> {
        (0..self.store.partitions()).collect()
    }

    /// Takes all that the journals hold.
    async fn land(&self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let parts = self.store.journal(&self.all()).await.unwrap();
            if parts.is_empty() {
                return records;
            }
            let marks: Vec<_> = parts.iter().map(|p| (p.partition, p.mark.clone())).collect();
            records.extend(parts.into_iter().flat_map(|p| p.records));
            self.store.landed(&marks).await.unwrap();
        }
    }
}

impl Bench for Rig {
    type Store = RedisInboxes;

    fn store(&self) -> &RedisInboxes {
        &self.store
    }

    async fn append(&self, items: Vec<Staging>) -> Vec<Position> {
        let placed = self.place(items).await.into_iter().map(|p| match p.unwrap() {
            Placed::New(position) => position,
            other => panic!("{other:?}"),
        });
        placed.collect()
    }

    async fn left(&self, told: Vec<Finished>) -> Vec<(Row, State)> {
        let _one = self.told.lock().await;
        assert!(told.iter().all(|t| t.state == State::Recalled), "the journal tells of all else");
        let finished = self.land().await.into_iter().filter_map(|r| match r {
            Record::Finished(row, state) => Some((row, state)),
            Record::Appended(..) => None,
        });
        finished.collect()
    }

    fn follows(&self, last: u64) -> u64 {
        last.max(codec::first_number(Epoch(5))) + 1
    }

    async fn restart(&self, epoch: Epoch) {
        self.store.stand_alone(epoch).await;
        self.land().await;
    }
}

mod single {
    use super::*;

    async fn make(_: Epoch) -> Rig {
        Rig::single(|_| {}).await
    }

    conformance::suite!(make);
}

mod clustered {
    use super::*;

    static CLUSTER: OnceCell<()> = OnceCell::const_new();

    async fn make(_: Epoch) -> Rig {
        // One at a time: three servers each are much for a small machine.
        CLUSTER.get_or_init(|| async {}).await;
        Rig::on(Servers::Cluster(stores::RedisCluster::start(3).await.unwrap()), |_| {}).await
    }

    conformance::suite!(make);
}
