//! What every inbox store must do. A back end's tests run all of it: `conformance::suite!(make)`, where `make(epoch)`
//! gives a [`Bench`] with an empty store. What only a store that is written through does is in `through`.

use bytes::Bytes;
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

use super::{InboxError, InboxStore};
use crate::model::{Finished, InboxKey, Loaded, Read, Row, Staging, State, Surviving};

mod collapse;
pub(crate) use collapse::*;

/// A store under test, and what differs from kind to kind.
pub(crate) trait Bench {
    /// The store.
    type Store: InboxStore;

    fn store(&self) -> &Self::Store;

    /// Stores deliveries and shows them, however long that takes; their places.
    async fn append(&self, items: Vec<Staging>) -> Vec<Position>;

    /// What has left the inboxes since this was asked last; `told` is what the store's answers said of it.
    async fn left(&self, told: Vec<Finished>) -> Vec<(Row, State)>;

    /// The number that follows when `last` is the greatest of an inbox and the epoch is 5.
    fn follows(&self, last: u64) -> u64;

    /// Begins an epoch in which all inboxes are absent.
    async fn restart(&self, epoch: Epoch);
}

/// A time at which nothing of the tests is over unless they say so.
const NOW: u64 = 1_000_000;
const LATER: u64 = 2_000_000;

pub(crate) fn key(uid: &str) -> InboxKey {
    InboxKey::new(AppId(1), Uid::new(uid).unwrap())
}

pub(crate) fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

pub(crate) fn staging(uid: &str, id: u64) -> Staging {
    Staging {
        key: key(uid),
        row: Row(id.cast_signed()),
        id: MessageId(id),
        accepted_ms: NOW,
        expires_ms: LATER,
        payload: Bytes::from(format!("payload {id}")),
        cap: 100,
        collapse: None,
    }
}

fn surviving(id: u64, birth: Position) -> Surviving {
    Surviving {
        row: Row(id.cast_signed()),
        id: MessageId(id),
        birth,
        accepted_ms: NOW,
        expires_ms: LATER,
        payload_bytes: 9,
        collapse: None,
    }
}

const ALL: Read = Read { after: None, acknowledges: false, max_messages: 1000, max_bytes: 1 << 20 };

fn after(position: Position) -> Read {
    Read { after: Some(position), ..ALL }
}

pub(crate) fn seqs(loaded: &Loaded) -> Vec<u64> {
    loaded.messages.iter().map(|m| m.seq.0).collect()
}

fn ids(loaded: &Loaded) -> Vec<u64> {
    loaded.messages.iter().map(|m| m.id.0).collect()
}

/// Brings inboxes up with what survived.
async fn bring<B: Bench>(bench: &B, uid: &str, rows: Vec<Surviving>) {
    let absent = bench.store().absent(&[key(uid)]).await.unwrap();
    bench.store().rebuild(&absent[0], rows, NOW).await.unwrap();
}

async fn append<B: Bench>(bench: &B, uid: &str, ids: impl IntoIterator<Item = u64>) -> Vec<Position> {
    bench.append(ids.into_iter().map(|id| staging(uid, id)).collect()).await
}

async fn load<B: Bench>(bench: &B, uid: &str, read: Read) -> Loaded {
    bench.store().load(&key(uid), read, 1000, NOW).await.unwrap()
}

async fn ack<B: Bench>(bench: &B, uid: &str, position: Position) -> Vec<(Row, State)> {
    let done = bench.store().ack(&[(key(uid), position)], NOW).await.unwrap().remove(0).unwrap();
    bench.left(done).await
}

/// The `n`th number that an inbox gives which was empty when epoch 5 began.
fn nth<B: Bench>(bench: &B, n: u64) -> u64 {
    bench.follows(0) + n - 1
}

/// Such numbers.
fn nths<B: Bench>(bench: &B, all: impl IntoIterator<Item = u64>) -> Vec<u64> {
    all.into_iter().map(|n| nth(bench, n)).collect()
}

fn place<B: Bench>(bench: &B, n: u64) -> Position {
    at(5, nth(bench, n))
}

/// An inbox that was never brought up cannot be read.
pub(crate) async fn absent_until_rebuilt<B: Bench>(bench: B) {
    let store = bench.store();
    assert_eq!(store.absent(&[key("a"), key("b")]).await.unwrap().len(), 2);
    assert_eq!(store.load(&key("a"), ALL, 9, NOW).await.unwrap_err(), InboxError::Absent);
    let acked = store.ack(&[(key("a"), at(1, 1))], NOW).await.unwrap();
    assert_eq!(acked, [Err(InboxError::Absent)]);
    assert_eq!(store.recall(&key("a"), MessageId(1), NOW).await.unwrap_err(), InboxError::Absent);
    assert_eq!(store.depth(&key("a"), NOW).await.unwrap_err(), InboxError::Absent);
    assert_eq!(store.waiting(&key("a"), NOW).await.unwrap_err(), InboxError::Absent);
    bring(&bench, "a", vec![]).await;
    assert_eq!(store.absent(&[key("a"), key("b")]).await.unwrap().len(), 1);
    assert_eq!(store.depth(&key("a"), NOW).await.unwrap(), 0);
    assert_eq!(store.waiting(&key("a"), NOW).await.unwrap(), None);
}

/// Numbers have no holes, and are each inbox's own.
pub(crate) async fn numbers_in_order<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    bring(&bench, "b", vec![]).await;
    let items = vec![staging("a", 1), staging("b", 2), staging("a", 3), staging("a", 4)];
    let places = bench.append(items).await;
    assert_eq!(places, [1, 1, 2, 3].map(|n| place(&bench, n)));
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!((ids(&loaded), loaded.start.epoch), (vec![1, 3, 4], Epoch(5)));
    assert_eq!((loaded.start.seq.0, loaded.through.0), (nth(&bench, 1) - 1, nth(&bench, 3)));
    assert_eq!(loaded.messages[0].payload.as_deref(), Some(b"payload 1".as_slice()));
    assert_eq!((loaded.messages[0].accepted_ms, loaded.messages[0].expires_ms), (NOW, LATER));
}

/// An ack is cumulative, and what it took out is told once.
pub(crate) async fn acks_are_cumulative<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=4).await;
    let left = ack(&bench, "a", place(&bench, 2)).await;
    assert_eq!(left, [(Row(1), State::Acked), (Row(2), State::Acked)]);
    assert_eq!(ack(&bench, "a", place(&bench, 2)).await, []);
    assert_eq!(seqs(&load(&bench, "a", ALL).await), nths(&bench, 3..=4));
    assert_eq!(ack(&bench, "a", place(&bench, 99)).await.len(), 2);
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!((loaded.start, loaded.through), (place(&bench, 4), Seq(nth(&bench, 4))));
    append(&bench, "a", [9]).await;
    assert_eq!(seqs(&load(&bench, "a", ALL).await), nths(&bench, [5]));
}

/// Positions of earlier epochs cover what was born in them, and are translated to the present one.
pub(crate) async fn positions_of_earlier_epochs<B: Bench>(bench: B) {
    let rows = vec![surviving(1, at(2, 3)), surviving(2, at(2, 4)), surviving(3, at(4, 6))];
    bring(&bench, "a", rows).await;
    append(&bench, "a", [4]).await;
    let new = bench.follows(6);
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![1, 2, 3, 4], at(5, 2)));
    assert_eq!(seqs(&loaded), [3, 4, 6, new]);
    // The first of epoch 2 is covered.
    let loaded = load(&bench, "a", after(at(2, 3))).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![2, 3, 4], at(5, 3)));
    // All of epoch 2 is covered, however far the position says: 6 was born in another.
    let loaded = load(&bench, "a", after(at(2, 100))).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![3, 4], at(5, 5)));
    // An epoch that has not been is no news.
    assert_eq!(ids(&load(&bench, "a", after(at(6, 100))).await), [1, 2, 3, 4]);
    assert_eq!(ack(&bench, "a", at(6, 100)).await, []);
    // Numbers of the present epoch that lie between those of earlier ones.
    assert_eq!(ids(&load(&bench, "a", after(at(5, 5))).await), [3, 4]);
    // The position of a load that acknowledges takes out what it covers.
    let loaded = load(&bench, "a", Read { acknowledges: true, ..after(at(4, 6)) }).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![4], at(5, new - 1)));
    assert_eq!(bench.left(loaded.finished).await.len(), 3);
    // Nothing is left that an old position does not cover.
    ack(&bench, "a", at(5, new)).await;
    let loaded = load(&bench, "a", after(at(1, 1))).await;
    assert_eq!((loaded.start, loaded.through), (at(5, new), Seq(new)));
}

/// Pages by count and by size; one message always fits.
pub(crate) async fn pages<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=5).await;
    let page = |loaded: Loaded| (seqs(&loaded), loaded.through.0, loaded.more);
    let loaded = load(&bench, "a", Read { max_messages: 2, ..ALL }).await;
    assert_eq!(page(loaded), (nths(&bench, 1..=2), nth(&bench, 2), true));
    let loaded = load(&bench, "a", Read { max_bytes: 1, ..after(place(&bench, 2)) }).await;
    assert_eq!(page(loaded), (nths(&bench, [3]), nth(&bench, 3), true));
    let loaded = load(&bench, "a", Read { max_messages: 2, ..after(place(&bench, 3)) }).await;
    assert_eq!(page(loaded), (nths(&bench, 4..=5), nth(&bench, 5), false));
}

/// A long inbox, with gaps, read in pages from everywhere.
pub(crate) async fn a_long_inbox<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=100).await;
    let mut recalled = Vec::new();
    for id in (10..=90).step_by(7) {
        recalled.extend(bench.store().recall(&key("a"), MessageId(id), NOW).await.unwrap());
    }
    assert_eq!(bench.left(recalled).await.len(), 12);
    let kept: Vec<u64> = (1..=100).filter(|id| !(10..=90).contains(id) || (id - 10) % 7 > 0).collect();
    for from in [0, 1, 9, 10, 11, 40, 89, 99, 100] {
        let mut found = Vec::new();
        let mut after_seq = if from == 0 { nth(&bench, 1) - 1 } else { nth(&bench, from) };
        loop {
            let loaded = load(&bench, "a", Read { max_messages: 9, ..after(at(5, after_seq)) }).await;
            found.extend(ids(&loaded));
            after_seq = loaded.through.0;
            if !loaded.more {
                break;
            }
        }
        let expected: Vec<u64> = kept.iter().copied().filter(|id| *id > from).collect();
        assert_eq!(found, expected, "after {from}");
    }
    assert_eq!(ack(&bench, "a", place(&bench, 95)).await.len(), kept.len() - 5);
    assert_eq!(ids(&load(&bench, "a", ALL).await), [96, 97, 98, 99, 100]);
}

/// What is over is not delivered, and leaves the inbox with its reason.
pub(crate) async fn expired_is_skipped<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    let short = |id| Staging { expires_ms: NOW + 10, ..staging("a", id) };
    bench.append(vec![short(7), staging("a", 1), short(2), staging("a", 3)]).await;
    assert_eq!(bench.store().depth(&key("a"), NOW + 10).await.unwrap(), 2);
    let loaded = bench.store().load(&key("a"), ALL, 9, NOW + 10).await.unwrap();
    assert_eq!((seqs(&loaded), loaded.through.0), (nths(&bench, [2, 4]), nth(&bench, 4)));
    let left = bench.left(loaded.finished).await;
    assert_eq!(left, [(Row(7), State::Expired), (Row(2), State::Expired)]);
}

/// The oldest make room.
pub(crate) async fn a_full_inbox_pushes_out<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    let capped = |id| Staging { cap: 2, ..staging("a", id) };
    bench.append(vec![capped(1), capped(2)]).await;
    assert_eq!(bench.left(vec![]).await, []);
    bench.append(vec![capped(3)]).await;
    assert_eq!(ids(&load(&bench, "a", ALL).await), [2, 3]);
    assert_eq!(bench.left(vec![]).await, [(Row(1), State::InboxFull)]);
    // Three at once push out two, and the first of themselves.
    bench.append(vec![capped(4), capped(5), capped(6)]).await;
    let out: Vec<_> = bench.left(vec![]).await.into_iter().map(|(row, _)| row).collect();
    assert_eq!(out, [Row(2), Row(3), Row(4)]);
    assert_eq!(ids(&load(&bench, "a", ALL).await), [5, 6]);
    assert_eq!(bench.store().depth(&key("a"), NOW).await.unwrap(), 2);
}

/// A message that is loaded again and again becomes a dead letter; the others do not suffer.
pub(crate) async fn loads_are_counted<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=2).await;
    let first = Read { max_messages: 1, ..ALL };
    for _ in 0..3 {
        let loaded = bench.store().load(&key("a"), first, 3, NOW).await.unwrap();
        assert_eq!(seqs(&loaded), nths(&bench, [1]));
        assert_eq!(bench.left(loaded.finished).await, []);
    }
    let loaded = bench.store().load(&key("a"), first, 3, NOW).await.unwrap();
    assert_eq!(seqs(&loaded), nths(&bench, [2]));
    assert_eq!(bench.left(loaded.finished).await, [(Row(1), State::MaxLoads)]);
}

/// A recall takes one message out, wherever it lies.
pub(crate) async fn recalls<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=3).await;
    let finished = bench.store().recall(&key("a"), MessageId(2), NOW).await.unwrap().unwrap();
    assert_eq!((finished.row, finished.state), (Row(2), State::Recalled));
    assert_eq!(bench.left(vec![finished]).await, [(Row(2), State::Recalled)]);
    assert_eq!(bench.store().recall(&key("a"), MessageId(2), NOW).await.unwrap(), None);
    assert_eq!(seqs(&load(&bench, "a", ALL).await), nths(&bench, [1, 3]));
}

/// A new epoch forgets everything; rebuilds under way are turned away.
pub(crate) async fn restarts<B: Bench>(bench: B) {
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", 1..=3).await;
    let stale = bench.store().absent(&[key("b")]).await.unwrap();
    bench.restart(Epoch(9)).await;
    assert_eq!(bench.store().epoch(), Epoch(9));
    bench.store().rebuild(&stale[0], vec![surviving(7, at(5, 1))], NOW).await.unwrap();
    assert_eq!(bench.store().absent(&[key("a"), key("b")]).await.unwrap().len(), 2);
    let last = nth(&bench, 3);
    bring(&bench, "a", vec![surviving(3, at(5, last))]).await;
    append(&bench, "a", [4]).await;
    let loaded = load(&bench, "a", after(at(5, last - 1))).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![3, 4], at(9, last - 1)));
    assert!(loaded.messages[1].seq.0 > last);
}

/// A rebuild that comes second changes nothing.
pub(crate) async fn the_first_rebuild_wins<B: Bench>(bench: B) {
    let absent = bench.store().absent(&[key("a")]).await.unwrap();
    bring(&bench, "a", vec![]).await;
    append(&bench, "a", [1]).await;
    bench.store().rebuild(&absent[0], vec![surviving(7, at(2, 9))], NOW).await.unwrap();
    assert_eq!(ids(&load(&bench, "a", ALL).await), [1]);
}

/// What is rebuilt has its payload in the archive.
pub(crate) async fn payloads_of_survivors_are_the_archives<B: Bench>(bench: B) {
    bring(&bench, "a", vec![surviving(7, at(2, 9))]).await;
    append(&bench, "a", [8]).await;
    let loaded = load(&bench, "a", ALL).await;
    assert_eq!(loaded.messages[0].payload, None);
    assert!(loaded.messages[1].payload.is_some());
    assert_eq!((loaded.messages[0].accepted_ms, loaded.messages[0].expires_ms), (NOW, LATER));
}

/// An inbox is overdue when a message has been there for too long, and is named once until it is watched again.
pub(crate) async fn overdue_inboxes<B: Bench>(bench: B) {
    let store = bench.store();
    bring(&bench, "a", vec![]).await;
    bring(&bench, "b", vec![]).await;
    append(&bench, "a", [1, 2]).await;
    append(&bench, "b", [3]).await;
    ack(&bench, "b", place(&bench, 1)).await;
    assert_eq!(store.overdue(NOW + 99, 100, 99).await.unwrap(), []);
    assert_eq!(store.overdue(NOW + 100, 100, 99).await.unwrap(), [key("a")]);
    assert_eq!(store.overdue(NOW + 500, 100, 99).await.unwrap(), []);
    let waiting = store.waiting(&key("a"), NOW).await.unwrap().unwrap();
    assert_eq!((waiting.reaches, waiting.id), (place(&bench, 2), MessageId(2)));
    store.watch(&key("a"), NOW + 500).await.unwrap();
    assert_eq!(store.overdue(NOW + 700, 100, 99).await.unwrap(), [key("a")]);
}

/// Makes a test of each case for one back end.
macro_rules! suite {
    ($make:expr) => {
        $crate::inbox::conformance::suite!($make;
            absent_until_rebuilt, numbers_in_order, acks_are_cumulative, positions_of_earlier_epochs, pages,
            a_long_inbox, expired_is_skipped, a_full_inbox_pushes_out, loads_are_counted, recalls, restarts,
            the_first_rebuild_wins, payloads_of_survivors_are_the_archives, overdue_inboxes,
            a_newer_one_replaces, the_last_of_a_batch_stays, only_what_is_stored_is_replaced,
            replacing_and_the_cap, survivors_are_replaced, keys_of_all_kinds
        );
    };
    ($make:expr; $($case:ident),*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::inbox::conformance::$case($make(wire::id::Epoch(5)).await).await;
            }
        )*
    };
}
pub(crate) use suite;
