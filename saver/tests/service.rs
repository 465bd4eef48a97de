//! Two savers on one archive, as services, called through the clients that the other services use.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{path::Path, sync::Arc, time::Duration};

use cluster::{Embedded, LocalServices, NodeId, Role, rendezvous};
use peers::{Limits, PeerError, Savers};
use proto::internal as rpc;
use saver::{Saver, config::Config};
use service::{Metrics, Node, NodeSettings};
use tokio_util::sync::CancellationToken;

const FAR: u64 = 1 << 50;

struct Cluster {
    discovery: Embedded,
    local: LocalServices,
    folder: tempfile::TempDir,
    metrics: Metrics,
}

impl Cluster {
    fn new() -> Self {
        Self {
            discovery: Embedded::default(),
            local: LocalServices::default(),
            folder: tempfile::tempdir().unwrap(),
            metrics: Metrics::default(),
        }
    }

    async fn saver(&self, id: u32) -> Node<Saver> {
        let settings = NodeSettings {
            id: Some(id),
            zone: "z".to_owned(),
            data: self.folder.path().join(format!("saver-{id}")),
            drain_deadline: Duration::from_secs(5),
        };
        let config = Config { archive: self.archive(), ..Config::default() };
        let discovery = Arc::new(self.discovery.clone());
        let start = Node::start_local(&settings, config, discovery, self.local.clone(), self.metrics.clone());
        start.await.unwrap()
    }

    fn archive(&self) -> std::path::PathBuf {
        self.folder.path().join("shared.db")
    }
}

fn append(id: u64, uids: &[String]) -> rpc::Append {
    rpc::Append {
        id,
        app: 1,
        uids: uids.to_vec(),
        payload: id.to_string().into(),
        accepted_ms: 1,
        expires_ms: FAR,
        ..rpc::Append::default()
    }
}

fn load(uid: &str) -> rpc::LoadItem {
    rpc::LoadItem {
        app: 1,
        uid: uid.to_owned(),
        bind: true,
        max_messages: 100,
        max_bytes: 1 << 20,
        ..rpc::LoadItem::default()
    }
}

fn users() -> Vec<String> {
    (0..40).map(|n| format!("user-{n}")).collect()
}

/// Waits until both savers number in an epoch after they have seen each other.
async fn settled(savers: &Savers, members: &cluster::Cluster, count: usize) {
    let mut picture = members.picture();
    picture.wait_for(|p| p.of(Role::Saver).count() == count).await.unwrap();
    for uid in users() {
        while savers.load(load(&uid)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_savers_share_an_archive() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.saver(1).await, cluster.saver(2).await);
    let cancel = CancellationToken::new();
    let savers = Savers::new(&one.host().cluster, Limits::default(), cancel.clone());
    settled(&savers, &one.host().cluster, 2).await;
    let owner = |uid: &str| {
        let picture = one.host().cluster.now();
        picture.owner(Role::Saver, rendezvous::user_key(1, uid)).unwrap().id
    };
    let users = users();
    assert!(users.iter().any(|u| owner(u) == NodeId(1)) && users.iter().any(|u| owner(u) == NodeId(2)));

    // One payload to all, over both shards; the ledger is the sum.
    let to_all = async || {
        let results = savers.append_list(append(100, &[]), &users).await;
        results.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let sent = to_all().await;
    assert_eq!((sent.len(), to_all().await), (40, sent.clone()));
    let ledger = savers.ledger(1u32, 100).await.unwrap();
    assert_eq!((ledger.targets, ledger.stored, ledger.multicast), (40, 40, true));

    let acked = &users[3];
    let ack =
        rpc::AckItem { app: 1, uid: acked.clone(), inbox: Some(sent[3]), cursor: None, ..Default::default() };
    savers.ack(ack).await.unwrap();
    let (mut recalled, mut delivered) = (0, Vec::new());
    for shard in savers.shards() {
        let request = rpc::RecallRequest { app: 1, id: 100, ..Default::default() };
        let done = savers.recall(shard, request).await.unwrap();
        recalled += done.recalled.len();
        delivered.extend(done.delivered);
    }
    assert_eq!((recalled, delivered), (39, vec![acked.clone()]));
    let ledger = savers.ledger(1u32, 100).await.unwrap();
    assert_eq!((ledger.targets, ledger.acked, ledger.recalled), (40, 1, 39));

    // Unicasts, and what a saver does not own.
    for (n, uid) in users.iter().enumerate() {
        let one = append(200 + n as u64, std::slice::from_ref(uid));
        assert_eq!(savers.append(one).await.unwrap().positions[0].seq, 2);
    }
    let foreign = rpc::Append { uids: vec![String::new()], ..append(300, &[]) };
    assert!(matches!(savers.append(foreign).await, Err(PeerError::Refused(r)) if r.code == "bad_uid"));

    // One leaves: the other finds everything in the archive.
    two.drain(Duration::from_secs(5)).await;
    settled(&savers, &one.host().cluster, 1).await;
    for (n, uid) in users.iter().enumerate() {
        let loaded = savers.load(load(uid)).await.unwrap();
        let ids: Vec<u64> = loaded.messages.iter().map(|m| m.id).collect();
        assert_eq!(ids, [200 + n as u64], "{uid}");
        assert_eq!(savers.depth(1u32, uid).await.unwrap(), 1);
    }
    assert!(cluster.metrics.encode().contains("longwire_saver_messages_appended_total"));
    cancel.cancel();
    one.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_archive_that_cannot_be_used_is_one_clear_line() {
    let cluster = Cluster::new();
    std::fs::write(cluster.archive(), vec![b'x'; 5000]).unwrap();
    let settings = NodeSettings {
        id: Some(1),
        zone: "z".to_owned(),
        data: cluster.folder.path().join("data"),
        drain_deadline: Duration::from_secs(5),
    };
    let config = Config { archive: cluster.archive(), ..Config::default() };
    let discovery = Arc::new(cluster.discovery.clone());
    let start = Node::<Saver>::start_local(&settings, config, discovery, cluster.local, cluster.metrics);
    let error = start.await.err().unwrap().to_string();
    assert!(error.starts_with("archive ") && error.contains("damaged") && !error.contains('\n'), "{error}");
    assert!(Path::new(&settings.data).exists());
}
