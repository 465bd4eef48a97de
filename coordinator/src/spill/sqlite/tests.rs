use proto::internal::UpItem;
use tempfile::TempDir;

use sqlx::Connection as _;

use super::*;

const LANE: LaneKey = LaneKey { app: 1, kind: Kind::Up };

fn entry(app: u32, uid: &str, id: u64) -> Entry {
    Entry { event: Event::Up(UpItem { app, uid: uid.into(), id, ..UpItem::default() }), spilled_ms: id }
}

async fn open(dir: &TempDir, parts: u16) -> (SqliteSpill, JoinHandle<()>, CancellationToken) {
    let cancel = CancellationToken::new();
    let path = dir.path().join("spill.sqlite");
    let (spill, task) =
        SqliteSpill::open(&path, parts, 3, &FlowMetrics::default(), cancel.clone()).await.unwrap();
    (spill, task, cancel)
}

/// The ids of all events of an app's upstream lane, part by part.
async fn ids(spill: &SqliteSpill, parts: u16) -> Vec<Vec<u64>> {
    let mut all = Vec::new();
    for part in 0..parts {
        let (mut ids, mut after) = (Vec::new(), 0);
        loop {
            let page = spill.read(PartKey { lane: LANE, part }, after, 1000).await.unwrap();
            let Some(last) = page.last else { break };
            after = last;
            ids.extend(page.waiting.iter().map(|waiting| waiting.event.id()));
        }
        all.push(ids);
    }
    all
}

/// A crash leaves the file as it is at some moment, with writes under way: here a copy made at such a moment. All
/// that was answered is in it, in order. (So few pages are written that nothing is moved out of the log meanwhile.)
#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered_and_keeps_the_order() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (spill, _task, _cancel) = open(&dir, 4).await;
    let spill = Arc::new(spill);
    for id in 0..50 {
        spill.append(vec![entry(1, "alice", id), entry(1, &format!("u{id}"), 1000 + id)]).await.unwrap();
    }
    for n in 0..50 {
        let spill = spill.clone();
        tokio::spawn(async move { spill.append(vec![entry(1, "late", 5000 + n)]).await });
    }
    tokio::task::yield_now().await;
    for file in ["spill.sqlite", "spill.sqlite-wal"] {
        std::fs::copy(dir.path().join(file), crashed.path().join(file)).unwrap();
    }

    let (spill, _task, _cancel) = open(&crashed, 4).await;
    let parts = ids(&spill, 4).await;
    let alice = entry(1, "alice", 0).event.bucket() % 4;
    let of_alice: Vec<_> = parts[usize::from(alice)].iter().copied().filter(|id| *id < 1000).collect();
    assert_eq!(of_alice, (0..50).collect::<Vec<_>>());
    let mut others: Vec<_> = parts.concat().into_iter().filter(|id| (1000..5000).contains(id)).collect();
    others.sort_unstable();
    assert_eq!(others, (1000..1050).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_number_of_workers_keeps_every_users_order() {
    let dir = tempfile::tempdir().unwrap();
    let (spill, task, cancel) = open(&dir, 8).await;
    for id in 0..60 {
        spill.append(vec![entry(1, &format!("u{}", id % 6), id)]).await.unwrap();
    }
    drop(spill);
    cancel.cancel();
    task.await.unwrap();
    let (spill, _task, _cancel) = open(&dir, 3).await;
    let parts = ids(&spill, 3).await;
    assert_eq!(parts.concat().len(), 60);
    for part in parts {
        assert!(part.is_sorted(), "{part:?}");
    }
}

#[tokio::test]
async fn removes_counts_and_buries() {
    let dir = tempfile::tempdir().unwrap();
    let (spill, _task, _cancel) = open(&dir, 1).await;
    let rows = spill.append((0..6).map(|id| entry(1, "alice", id)).collect()).await.unwrap();
    spill.append(vec![entry(2, "alice", 9)]).await.unwrap();
    spill.remove(rows[0]).await.unwrap();
    spill.count(rows[1], 4, 1).await.unwrap();
    spill.flush().await.unwrap();
    let part = PartKey { lane: LANE, part: 0 };
    let head = spill.read(part, 0, 1).await.unwrap().waiting.remove(0);
    assert_eq!((head.row, head.attempts, head.refusals, head.spilled_ms), (rows[1], 4, 1, 1));
    let backlog = spill.backlog().await.unwrap();
    assert_eq!(backlog.iter().map(|b| (b.lane.app, b.events)).collect::<Vec<_>>(), [(1, 5), (2, 1)]);

    for row in &rows[1..] {
        spill.bury(*row, 77, "gave up".into()).await.unwrap();
    }
    let dead = spill.dead(1, 0, 10).await.unwrap();
    let ids: Vec<_> = dead.iter().map(|letter| letter.event.as_ref().unwrap().id()).collect();
    assert_eq!(ids, [3, 4, 5], "the oldest of five went, as three are kept");
    assert_eq!((dead[0].died_ms, dead[0].reason.as_str()), (77, "gave up"));

    let replayed = spill.replay(1, dead[1].row, 99).await.unwrap();
    assert_eq!(replayed.iter().map(|b| (b.lane, b.events)).collect::<Vec<_>>(), [(LANE, 2)]);
    assert_eq!(super::tests::ids(&spill, 1).await, [vec![3, 4]]);
    assert_eq!(spill.dead(1, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn refuses_a_file_of_a_later_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spill.sqlite");
    let mut file =
        SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    sqlx::query("PRAGMA user_version = 9").execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    let opened = SqliteSpill::open(&path, 1, 3, &FlowMetrics::default(), CancellationToken::new()).await;
    assert!(opened.err().unwrap().0.contains("version 9"));
}
