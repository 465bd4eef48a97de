//! The engine over the in-process store and an SQLite file, with a clock of the tests' own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

use super::*;
use crate::{
    archive::{
        ArchiveError, Reservation,
        flaky::{Fault, Flaky},
        sqlite::{SqliteArchive, SqliteSettings},
    },
    inbox::memory::{MemoryInboxes, MemoryLimits},
    model::{Read, Row},
};

pub(super) const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;
pub(super) const APP: AppId = AppId(1);
pub(super) const ROOMY: MemoryLimits =
    MemoryLimits { inboxes: 16_000, messages: 16_000, payload_bytes: 1 << 20, idle_s: 60 };

pub(super) struct Rig {
    pub(super) engine: Engine<MemoryInboxes, Flaky<SqliteArchive>>,
    pub(super) fault: Fault,
    clock: Arc<AtomicU64>,
    cancel: CancellationToken,
    writer: JoinHandle<()>,
    folder: Arc<tempfile::TempDir>,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::with(ROOMY, Limits::default()).await
    }

    pub(super) async fn with(memory: MemoryLimits, limits: Limits) -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()), memory, limits).await
    }

    pub(super) async fn open(folder: Arc<tempfile::TempDir>, memory: MemoryLimits, limits: Limits) -> Self {
        let settings = SqliteSettings {
            path: folder.path().join("archive.db"),
            cache_bytes: 1 << 20,
            busy_timeout: std::time::Duration::from_millis(200),
        };
        let archive = SqliteArchive::open(&settings).await.unwrap();
        let fault = Fault::default();
        let archive = Flaky { archive, fault: fault.clone() };
        let inboxes = MemoryInboxes::new(archive.begin_epoch().await.unwrap(), memory);
        let now = Arc::new(AtomicU64::new(NOW));
        let clock = now.clone();
        let clock: Clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let cancel = CancellationToken::new();
        let start =
            Engine::start(inboxes, archive, Everything, limits, clock, Metrics::default(), cancel.clone());
        let (engine, writer) = start.await.unwrap();
        Self { engine, fault, clock: now, cancel, writer: tokio::spawn(writer), folder }
    }

    /// Another saver on the same archive.
    pub(super) async fn beside(&self) -> Self {
        Self::open(self.folder.clone(), ROOMY, Limits::default()).await
    }

    /// Ends this life and begins another on the same archive.
    pub(super) async fn again(self) -> Self {
        let folder = self.folder.clone();
        self.cancel.cancel();
        self.writer.await.unwrap();
        self.engine.archive().archive.close().await;
        Self::open(folder, ROOMY, Limits::default()).await
    }

    /// Kills this life wherever it stands, and begins another on the same archive.
    pub(super) async fn killed(self) -> Self {
        self.writer.abort();
        let _ = self.writer.await;
        drop(self.engine);
        Self::open(self.folder, ROOMY, Limits::default()).await
    }

    pub(super) fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    pub(super) async fn push(&self, n: u64, uid: &str) -> Result<Appended, Refused> {
        self.engine.append(vec![append(n, &[uid])]).await.remove(0)
    }

    pub(super) async fn load(&self, uid: &str, read: Read) -> LoadedInbox {
        let item = LoadItem { key: key(uid), read, bind: false, own_cursor: None, utc_offset_min: None };
        self.engine.load(vec![item]).await.remove(0).unwrap()
    }

    pub(super) async fn ids(&self, uid: &str) -> Vec<u64> {
        self.load(uid, ALL).await.inbox.messages.iter().map(|m| m.id.0 - id(0).0).collect()
    }

    pub(super) async fn ack(&self, uid: &str, position: Position) {
        let item = AckItem { key: key(uid), inbox: Some(position), cursor: None, credits: Vec::new() };
        self.engine.ack(vec![item]).await.unwrap();
    }

    pub(super) async fn ledger(&self, n: u64) -> Ledger {
        self.engine.ledger(APP, id(n)).await.unwrap()
    }

    /// Lets the disk hold so many pages, or as many as there may be.
    pub(super) async fn disk(&self, pages: Option<u32>) {
        self.engine.archive().archive.limit_pages(pages).await;
    }
}

pub(super) const ALL: Read =
    Read { after: None, acknowledges: false, max_messages: 1000, max_bytes: 1 << 20 };

pub(super) fn key(uid: &str) -> InboxKey {
    InboxKey::new(APP, Uid::new(uid).unwrap())
}

pub(super) fn id(n: u64) -> MessageId {
    MessageId(MessageId::from_parts(NOW, 1, 0).0 + n)
}

pub(super) fn append(n: u64, uids: &[&str]) -> Append {
    Append {
        id: id(n),
        keys: uids.iter().map(|uid| key(uid)).collect(),
        payload: Bytes::from(format!("payload {n}")),
        accepted_ms: NOW,
        expires_ms: NOW + 60_000,
        inbox_cap: None,
        multicast: uids.len() > 1,
        durability: None,
        collapse: None,
    }
}

pub(super) fn seq(appended: &Result<Appended, Refused>) -> Vec<u64> {
    appended.as_ref().unwrap().positions.iter().map(|p| p.seq.0).collect()
}

/// Counts of a ledger: targets, acked, stored, expired, dropped, recalled.
pub(super) fn counts(l: &Ledger) -> [u64; 6] {
    let dropped = l.dropped.values().sum();
    assert_eq!(l.targets, l.acked + l.stored + l.expired + dropped + l.recalled, "{l:?}");
    [l.targets, l.acked, l.stored, l.expired, dropped, l.recalled]
}

#[tokio::test]
async fn what_was_answered_outlives_the_process() {
    let rig = Rig::new().await;
    for n in 1..=3 {
        assert_eq!(seq(&rig.push(n, "a").await), [n]);
    }
    let epoch = rig.load("a", ALL).await.inbox.start.epoch;
    rig.ack("a", Position { epoch, seq: Seq(1) }).await;
    let rig = rig.again().await;
    let loaded = rig.load("a", Read { after: Some(Position { epoch, seq: Seq(2) }), ..ALL }).await.inbox;
    assert!(loaded.start.epoch > epoch);
    assert_eq!((loaded.start.seq, loaded.messages.len()), (Seq(2), 1));
    assert_eq!(loaded.messages[0].payload.as_deref(), Some(&b"payload 3"[..]));
    assert_eq!(rig.ids("a").await, [2, 3]);
    assert_eq!(seq(&rig.push(4, "a").await), [4]);
    assert_eq!(counts(&rig.ledger(1).await), [1, 1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_repeat_stores_nothing() {
    let rig = Rig::new().await;
    let first = rig.push(1, "a").await.unwrap();
    let again = rig.push(1, "a").await.unwrap();
    assert_eq!((&again.positions, again.repeated, first.repeated), (&first.positions, true, false));
    // Twins in one call.
    let twins = rig.engine.append(vec![append(2, &["a"]), append(2, &["a"]), append(3, &["a"])]).await;
    assert_eq!(twins.iter().map(|t| seq(t)[0]).collect::<Vec<_>>(), [2, 2, 3]);
    assert_eq!(twins.iter().map(|t| t.as_ref().unwrap().repeated).collect::<Vec<_>>(), [false, true, false]);
    let rig = rig.again().await;
    let again = rig.push(1, "a").await.unwrap();
    assert_eq!((again.positions, again.repeated), (first.positions.clone(), true));
    rig.ack("a", first.positions[0]).await;
    rig.engine.flush().await.unwrap();
    assert_eq!(seq(&rig.push(1, "a").await), [0]);
    assert_eq!(rig.ids("a").await, [2, 3]);
}

/// One caller that uses an id for two users must not fail the transaction that others ride in.
#[tokio::test]
async fn an_id_in_use_is_refused_alone() {
    let rig = Rig::new().await;
    let results = rig.engine.append(vec![append(1, &["a"]), append(1, &["b"]), append(2, &["b"])]).await;
    assert_eq!((seq(&results[0]), seq(&results[2])), (vec![1], vec![1]));
    assert_eq!(results[1].as_ref().unwrap_err().code(), "id_taken");
    assert_eq!(rig.push(1, "c").await.unwrap_err().code(), "id_taken");
}

/// Somebody else has written a row that this saver takes for new: the group is tried again with a look-up.
#[tokio::test]
async fn a_conflict_is_resolved() {
    let rig = Rig::new().await;
    let other = rig.beside().await;
    assert_eq!(seq(&other.push(5, "a").await), [1]);
    let results = rig.engine.append(vec![append(5, &["a"]), append(6, &["b"])]).await;
    assert!(results[0].as_ref().unwrap().repeated);
    // Number 1 went with the first try.
    assert_eq!(seq(&results[1]), [2]);
    assert_eq!(rig.ids("b").await, [6]);
}

#[tokio::test]
async fn a_multicast_is_for_all_and_balances() {
    let rig = Rig::new().await;
    let sent = rig.engine.append(vec![append(1, &["a", "b", "c", "d"])]).await.remove(0).unwrap();
    assert_eq!(sent.positions.len(), 4);
    // Later receivers of the same message, and a repeat for an earlier one.
    let more = rig.engine.append(vec![append(1, &["d", "e"])]).await.remove(0).unwrap();
    assert_eq!((more.positions[0], more.repeated), (sent.positions[3], false));
    rig.ack("a", sent.positions[0]).await;
    let recalled = rig.engine.recall(APP, id(1), String::new(), usize::MAX).await.unwrap();
    let names = |uids: &[Uid]| uids.iter().map(|u| u.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&recalled.delivered), ["a"]);
    assert_eq!(recalled.recalled.len(), 4);
    assert_eq!(counts(&rig.ledger(1).await), [5, 1, 0, 0, 0, 4]);
    assert!(rig.ids("b").await.is_empty());
    assert!(!rig.ledger(99).await.found);
}

/// A list is read page by page, whoever asks about it.
#[tokio::test]
async fn a_long_list_balances() {
    let rig = Rig::new().await;
    let names: Vec<String> = (0..5_100).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sent = rig.engine.append(vec![append(1, &names)]).await.remove(0).unwrap();
    rig.ack("u7", sent.positions[7]).await;
    assert_eq!(counts(&rig.ledger(1).await), [5_100, 1, 5_099, 0, 0, 0]);
    assert!(rig.ledger(1).await.multicast);
    // An answer that names all users of a long list is more than a call takes: it comes in parts.
    let mut recalled = rig.engine.recall(APP, id(1), String::new(), 10).await.unwrap();
    assert_eq!((recalled.recalled.len(), recalled.delivered.len()), (4_999, 1), "no more than one page");
    while let Some(next) = recalled.next.take() {
        let more = rig.engine.recall(APP, id(1), next, 10).await.unwrap();
        recalled.recalled.extend(more.recalled);
        recalled.next = more.next;
    }
    assert_eq!((recalled.recalled.len(), recalled.delivered.len()), (5_099, 1));
    assert_eq!(counts(&rig.ledger(1).await), [5_100, 1, 0, 0, 0, 5_099]);
}

#[tokio::test]
async fn caps_expiry_and_dead_letters_are_in_the_ledger() {
    let limits = Limits { max_loads: 2, ..Limits::default() };
    let rig = Rig::with(ROOMY, limits).await;
    for n in 1..=3 {
        let one = Append { inbox_cap: Some(2), ..append(n, &["a"]) };
        rig.engine.append(vec![one]).await.remove(0).unwrap();
    }
    assert_eq!(rig.ledger(1).await.dropped["inbox_full"], 1);
    for _ in 0..2 {
        assert_eq!(rig.ids("a").await, [2, 3]);
    }
    assert!(rig.ids("a").await.is_empty());
    assert_eq!(rig.ledger(2).await.dropped["max_loads"], 1);
    rig.push(4, "a").await.unwrap();
    assert_eq!(rig.engine.depth(&key("a")).await.unwrap(), 1);
    rig.pass(60_000);
    assert_eq!(counts(&rig.ledger(4).await), [1, 0, 0, 1, 0, 0]);
    assert_eq!(rig.engine.depth(&key("a")).await.unwrap(), 0);
    assert!(rig.ids("a").await.is_empty());
}

#[tokio::test]
async fn words_are_reserved_once() {
    let rig = Rig::new().await;
    let reserve = |n: u64| Reservation {
        app: APP,
        word: "w".into(),
        id: id(n),
        fingerprint: Bytes::from_static(b"f"),
        expires_ms: NOW + 1000,
    };
    let (a, b) = tokio::join!(rig.engine.reserve(reserve(1), None), rig.engine.reserve(reserve(2), None));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id, b.id);
    assert!(a.repeated != b.repeated);
}

/// A restart numbers in a new epoch and finds in the archive what another saver wrote meanwhile.
#[tokio::test]
async fn a_restart_sees_what_others_wrote() {
    let rig = Rig::new().await;
    rig.push(1, "a").await.unwrap();
    let epoch = rig.engine.inboxes().epoch();
    let other = rig.beside().await;
    other.push(2, "a").await.unwrap();
    rig.engine.restart().await.unwrap();
    assert!(rig.engine.inboxes().epoch() > Epoch(epoch.0 + 1));
    assert_eq!(rig.ids("a").await, [1, 2]);
    assert_eq!(seq(&rig.push(3, "a").await), [3]);
}

#[tokio::test]
async fn the_end_writes_what_was_taken_in() {
    let rig = Rig::new().await;
    let last = rig.push(1, "a").await.unwrap();
    rig.ack("a", last.positions[0]).await;
    let engine = rig.engine.clone();
    let rig = rig.again().await;
    assert!(rig.ids("a").await.is_empty());
    assert_eq!(engine.append(vec![append(2, &["a"])]).await, [Err(Refused::Ending)]);
    assert!(matches!(Refused::from(ArchiveError::Locked).retry_after_ms(), Some(500)));
    assert_eq!(Row::unicast(id(1)).0, id(1).0.cast_signed());
}
