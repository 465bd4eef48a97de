//! Broadcast jobs and what is counted of them, called through the clients that the other services use.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{sync::Arc, time::Duration};

use cluster::{Embedded, LocalServices, Role};
use futures::future::join_all;
use peers::{Limits, PeerError, Savers};
use proto::internal::{self as rpc, CreditKind, Filter, JobState};
use saver::{Saver, config::Config};
use service::{Metrics, Node, NodeSettings};
use tokio_util::sync::CancellationToken;

const FAR: u64 = 1 << 50;
const ID: u64 = 1 << 40;
const APP: u32 = 1;

/// Two savers on one file.
struct Cluster {
    nodes: Vec<Node<Saver>>,
    savers: Savers,
    cancel: CancellationToken,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (discovery, local, metrics) = (Embedded::default(), LocalServices::default(), Metrics::default());
        let mut nodes: Vec<Node<Saver>> = Vec::new();
        for id in [1, 2] {
            let settings = NodeSettings {
                id: Some(id),
                zone: "z".to_owned(),
                data: folder.path().join(format!("saver-{id}")),
                drain_deadline: Duration::from_secs(5),
            };
            let config = Config { archive: folder.path().join("shared.db"), ..Config::default() };
            let start = Node::start_local(
                &settings,
                config,
                Arc::new(discovery.clone()),
                local.clone(),
                metrics.clone(),
            );
            nodes.push(start.await.unwrap());
        }
        let cluster = &nodes[0].host().cluster;
        cluster.picture().wait_for(|p| p.of(Role::Saver).count() == 2).await.unwrap();
        let cancel = CancellationToken::new();
        let savers = Savers::new(cluster, Limits::default(), cancel.clone());
        Self { nodes, savers, cancel, metrics, _folder: folder }
    }

    async fn end(self) {
        self.cancel.cancel();
        for node in self.nodes {
            node.drain(Duration::from_secs(5)).await;
        }
    }
}

fn job(id: u64) -> rpc::Job {
    rpc::Job {
        id,
        app: APP,
        payload: "hello".into(),
        audience: "ios".to_owned(),
        state: JobState::Running.into(),
        ..rpc::Job::default()
    }
}

fn slice(id: u64, from: u64, to: u64) -> rpc::ReleaseJobRequest {
    rpc::ReleaseJobRequest {
        app: APP,
        id,
        from,
        to,
        filter: Some(Filter { hash_from: from, hash_below: to, ..Filter::default() }),
        accepted_ms: 1,
        expires_ms: FAR,
        last: to == 9,
    }
}

fn page(after_bseq: u64) -> rpc::LoadBroadcastsRequest {
    rpc::LoadBroadcastsRequest { app: APP, after_bseq, max_messages: 99, max_bytes: 1 << 20 }
}

#[tokio::test]
async fn a_job_goes_its_way() {
    let cluster = Cluster::new().await;
    let savers = &cluster.savers;
    assert_eq!(savers.find_job(APP, ID).await.unwrap().job, None);
    let put = savers.put_job(job(ID)).await.unwrap();
    assert_eq!((put.stale, put.job.unwrap().revision), (false, 1));
    assert!(savers.put_job(job(ID)).await.unwrap().stale);
    assert!(matches!(savers.put_job(job(0)).await, Err(PeerError::Refused(r)) if r.code == "bad_id"));
    let (active, missed) = savers.active_jobs().await.unwrap();
    assert_eq!((active.len(), missed, active[0].payload.len()), (1, 0, 0));

    let first = savers.release_job(slice(ID, 0, 4)).await.unwrap();
    assert_eq!((first.released, first.bseq, first.job.unwrap().released), (true, 1, 4));
    assert_eq!(savers.release_job(slice(ID, 0, 4)).await.unwrap().bseq, 1);
    let pause = rpc::ChangeJobRequest { app: APP, id: ID, revision: 1, now_ms: 5, ..Default::default() };
    let pause = rpc::ChangeJobRequest { state: JobState::Paused.into(), ..pause };
    assert!(!savers.change_job(pause.clone()).await.unwrap().stale);
    assert!(savers.change_job(pause.clone()).await.unwrap().stale);
    let held = savers.release_job(slice(ID, 4, 9)).await.unwrap();
    assert_eq!((held.released, held.job.unwrap().state()), (false, JobState::Paused));
    let resume = rpc::ChangeJobRequest { revision: 2, state: JobState::Running.into(), ..pause };
    savers.change_job(resume).await.unwrap();
    assert_eq!(savers.release_job(slice(ID, 4, 9)).await.unwrap().bseq, 2);
    assert!(
        matches!(savers.release_job(slice(ID, 9, 9)).await, Err(PeerError::Refused(r)) if r.code == "bad_slice")
    );

    // A payload travels once, and comes with every slice.
    let read = savers.load_broadcasts(page(0)).await.unwrap().broadcasts;
    let read: Vec<_> = read.iter().map(|b| (b.bseq, &*b.payload, &*b.audience, b.filter.clone())).collect();
    let expected = |bseq, from, to| (bseq, &b"hello"[..], "ios", slice(ID, from, to).filter);
    assert_eq!(read, [expected(1, 0, 4), expected(2, 4, 9)]);

    let parts =
        [(7, 10), (8, 5)].map(|(room, sent)| rpc::Part { app: APP, id: ID, room, incarnation: 1, sent });
    savers.put_parts(parts.into()).await.unwrap();
    let listed = savers.list_jobs(rpc::ListJobsRequest { app: APP, before_id: 0, limit: 0 }).await.unwrap();
    assert_eq!((listed.jobs.len(), listed.counts[0].sent), (1, 15));
    let found = savers.find_job(APP, ID).await.unwrap();
    assert_eq!((&*found.job.unwrap().payload, found.counts.unwrap().sent), (&b"hello"[..], 15));
    assert_eq!(savers.active_jobs().await.unwrap().0, []);
    assert!(savers.recall_broadcast(APP, ID).await.unwrap());
    assert_eq!(savers.find_job(APP, ID).await.unwrap().job.unwrap().state(), JobState::Recalled);
    let read = savers.load_broadcasts(page(0)).await.unwrap().broadcasts;
    assert!(read.iter().all(|b| b.recalled && b.payload.is_empty() && b.audience == "ios"));
    cluster.end().await;
}

/// Users of both shards count for a broadcast of the one that owns the app, each once.
#[tokio::test]
async fn users_of_all_shards_count() {
    const USERS: u64 = 300;
    let cluster = Cluster::new().await;
    let savers = &cluster.savers;
    for (id, from, to) in [(ID, 0, 9), (ID + 1, 0, 9)] {
        savers.put_job(job(id)).await.unwrap();
        savers.release_job(slice(id, from, to)).await.unwrap();
    }
    let epoch = savers.broadcast_heads(&[APP]).await.unwrap()[0].epoch;
    let ack = |n: u64, to: u64| {
        let kind = if n.is_multiple_of(3) { CreditKind::Expired } else { CreditKind::Acked };
        let credit = |bseq| rpc::Credit { bseq, id: ID + bseq - 1, kind: kind.into() };
        rpc::AckItem {
            app: APP,
            uid: format!("user-{n}"),
            inbox: None,
            cursor: Some(rpc::BroadcastCursor { epoch, bseq: to }),
            credits: (1..=to).map(credit).collect(),
        }
    };
    for to in [1, 1, 2] {
        let all = join_all((0..USERS).map(|n| savers.ack(ack(n, to)))).await;
        assert!(all.iter().all(Result::is_ok));
        let ledger = savers.ledger(APP, ID).await.unwrap();
        let counts = ledger.counts.unwrap();
        assert_eq!((ledger.found, counts.acked, counts.expired), (true, 200, 100));
    }
    let counts = savers.find_job(APP, ID + 1).await.unwrap().counts.unwrap();
    assert_eq!((counts.acked, counts.expired), (200, 100));
    let text = cluster.metrics.encode();
    assert!(
        text.contains("longwire_saver_broadcast_credits_total")
            && text.contains("longwire_saver_log_pages_total")
    );
    cluster.end().await;
}
