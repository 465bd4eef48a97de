//! An archive that does not answer: what waits for it, what the others are told, and that nothing of it is lost.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, MessageId, Uid};

use super::*;
use crate::{
    archive::sqlite::{SqliteArchive, SqliteSettings},
    inbox::memory::{MemoryInboxes, MemoryLimits},
};

const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;

fn message(n: u64, bytes: usize) -> Append {
    Append {
        id: MessageId(MessageId::from_parts(NOW, 1, 0).0 + n),
        keys: vec![InboxKey::new(AppId(1), Uid::new(format!("user-{n}")).unwrap())],
        payload: Bytes::from(vec![b'x'; bytes]),
        accepted_ms: NOW,
        expires_ms: NOW + 60_000,
        inbox_cap: None,
        multicast: false,
        durability: None,
        collapse: None,
    }
}

#[tokio::test]
async fn what_waits_for_a_stalled_archive_is_bounded_and_written_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SqliteSettings {
        path: folder.path().join("archive.db"),
        cache_bytes: 1 << 20,
        busy_timeout: std::time::Duration::from_millis(200),
    };
    let archive = SqliteArchive::open(&settings).await.unwrap();
    let memory = MemoryLimits { inboxes: 16_000, messages: 16_000, payload_bytes: 1 << 20, idle_s: 60 };
    let inboxes = MemoryInboxes::new(archive.begin_epoch().await.unwrap(), memory);
    let limits = Limits { queue_messages: 100, queue_bytes: 100_000, ..Limits::default() };
    let (clock, cancel): (Clock, _) = (Arc::new(|| NOW), CancellationToken::new());
    let start =
        Engine::start(inboxes, archive, Everything, limits, clock, Metrics::default(), cancel.clone());
    // As long as nobody drives the writer, it is one whose archive does not answer.
    let (engine, writer) = start.await.unwrap();

    let begin = |range: std::ops::Range<u64>, bytes| {
        let engine = engine.clone();
        let calls = range.map(move |n| {
            let (engine, item) = (engine.clone(), message(n, bytes));
            tokio::spawn(async move { engine.append(vec![item]).await.remove(0) })
        });
        calls.collect::<Vec<_>>()
    };
    // By bytes: fifty of two thousand.
    let large = begin(0..200, 2_000);
    let refused = async |calls: &[tokio::task::JoinHandle<Result<Appended, Refused>>]| {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        calls.iter().filter(|call| call.is_finished()).count()
    };
    assert_eq!(refused(&large).await, 150);
    assert_eq!(engine.waiting().0, 50);
    assert_eq!(engine.core.queued_bytes.load(Ordering::Relaxed), 100_000);
    // By number: fifty more that have no bytes.
    let small = begin(1_000..1_200, 0);
    assert_eq!(refused(&small).await, 150);
    assert_eq!(engine.waiting().0, 100);

    let writer = tokio::spawn(writer);
    let results: Vec<_> =
        join_all(large.into_iter().chain(small)).await.into_iter().map(Result::unwrap).collect();
    let (done, not): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), not.len()), (100, 300));
    for refused in not.into_iter().filter_map(Result::err) {
        assert_eq!((refused.code(), refused.retry_after_ms()), ("busy", Some(200)));
    }
    let again: Vec<_> = join_all(begin(2_000..2_050, 2_000)).await;
    assert!(again.into_iter().all(|call| call.unwrap().is_ok()), "nobody is refused any more");
    assert_eq!(engine.core.queued_bytes.load(Ordering::Relaxed), 0);
    cancel.cancel();
    writer.await.unwrap();
}
