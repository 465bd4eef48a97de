//! What every inbox store must do. A back end's tests run all of it: `conformance::suite!(make)`, where `make(epoch)`
//! gives an empty store.

use bytes::Bytes;
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

use super::{InboxError, InboxStore};
use crate::model::{InboxKey, Loaded, Read, Row, Staged, Staging, State, Surviving};

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
async fn bring<S: InboxStore>(store: &S, uid: &str, rows: Vec<Surviving>) {
    let absent = store.absent(&[key(uid)]).await.unwrap();
    store.rebuild(&absent[0], rows, NOW).await.unwrap();
}

async fn stage<S: InboxStore>(store: &S, items: Vec<Staging>) -> Vec<Staged> {
    store.stage(&items, NOW).await.unwrap().into_iter().map(Result::unwrap).collect()
}

async fn append<S: InboxStore>(store: &S, uid: &str, ids: impl IntoIterator<Item = u64>) {
    let staged = stage(store, ids.into_iter().map(|id| staging(uid, id)).collect()).await;
    store.publish(&staged, NOW).await.unwrap();
}

async fn load<S: InboxStore>(store: &S, uid: &str, read: Read) -> Loaded {
    store.load(&key(uid), read, 1000, NOW).await.unwrap()
}

/// An inbox that was never brought up can neither be written nor read.
pub(crate) async fn absent_until_rebuilt<S: InboxStore>(store: S) {
    assert_eq!(store.absent(&[key("a"), key("b")]).await.unwrap().len(), 2);
    let staged = store.stage(&[staging("a", 1)], NOW).await.unwrap();
    assert!(matches!(staged[0], Err(InboxError::Absent)));
    assert_eq!(store.load(&key("a"), ALL, 9, NOW).await.unwrap_err(), InboxError::Absent);
    assert_eq!(store.ack(&key("a"), at(1, 1), NOW).await.unwrap_err(), InboxError::Absent);
    bring(&store, "a", vec![]).await;
    assert_eq!(store.absent(&[key("a"), key("b")]).await.unwrap().len(), 1);
    assert_eq!(store.depth(&key("a"), NOW).await.unwrap(), 0);
}

/// Numbers have no holes, and are each inbox's own.
pub(crate) async fn numbers_in_order<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    bring(&store, "b", vec![]).await;
    let items = vec![staging("a", 1), staging("b", 2), staging("a", 3), staging("a", 4)];
    let staged = stage(&store, items).await;
    let places: Vec<_> = staged.iter().map(|s| s.position).collect();
    assert_eq!(places, [at(5, 1), at(5, 1), at(5, 2), at(5, 3)]);
    store.publish(&staged, NOW).await.unwrap();
    let loaded = load(&store, "a", ALL).await;
    assert_eq!((ids(&loaded), loaded.start, loaded.through), (vec![1, 3, 4], at(5, 0), Seq(3)));
}

/// What is staged is seen by nobody: neither by a load nor in the depth, and no ack covers it.
pub(crate) async fn staged_is_invisible<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    let staged = stage(&store, vec![staging("a", 1)]).await;
    let loaded = load(&store, "a", ALL).await;
    assert_eq!((seqs(&loaded), loaded.through), (vec![], Seq(0)));
    assert_eq!(store.depth(&key("a"), NOW).await.unwrap(), 0);
    assert_eq!(store.ack(&key("a"), at(5, 9), NOW).await.unwrap(), []);
    assert_eq!(store.waiting(&key("a"), NOW).await.unwrap(), None);
    store.publish(&staged, NOW).await.unwrap();
    assert_eq!(seqs(&load(&store, "a", ALL).await), [1]);
}

/// A withdrawn number is never given again: it may have been written after all.
pub(crate) async fn withdrawn_numbers_stay_unused<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", [1]).await;
    let staged = stage(&store, vec![staging("a", 2), staging("a", 3)]).await;
    store.withdraw(&staged).await.unwrap();
    let loaded = load(&store, "a", ALL).await;
    assert_eq!((seqs(&loaded), loaded.through), (vec![1], Seq(1)));
    append(&store, "a", [4]).await;
    let loaded = load(&store, "a", after(at(5, 1))).await;
    assert_eq!((ids(&loaded), seqs(&loaded), loaded.start), (vec![4], vec![4], at(5, 1)));
}

/// An ack is cumulative, and what it took out is told once.
pub(crate) async fn acks_are_cumulative<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", 1..=4).await;
    let finished = store.ack(&key("a"), at(5, 2), NOW).await.unwrap();
    let rows: Vec<_> = finished.iter().map(|f| (f.row, f.state)).collect();
    assert_eq!(rows, [(Row(1), State::Acked), (Row(2), State::Acked)]);
    assert_eq!(store.ack(&key("a"), at(5, 2), NOW).await.unwrap(), []);
    assert_eq!(seqs(&load(&store, "a", ALL).await), [3, 4]);
    assert_eq!(store.ack(&key("a"), at(5, 99), NOW).await.unwrap().len(), 2);
    let loaded = load(&store, "a", ALL).await;
    assert_eq!((loaded.start, loaded.through), (at(5, 4), Seq(4)));
    append(&store, "a", [9]).await;
    assert_eq!(seqs(&load(&store, "a", ALL).await), [5]);
}

/// Positions of earlier epochs cover what was born in them, and are translated to the present one.
pub(crate) async fn positions_of_earlier_epochs<S: InboxStore>(store: S) {
    let rows = vec![surviving(1, at(2, 3)), surviving(2, at(2, 4)), surviving(3, at(4, 6))];
    bring(&store, "a", rows).await;
    append(&store, "a", [4]).await;
    let loaded = load(&store, "a", ALL).await;
    assert_eq!((ids(&loaded), seqs(&loaded), loaded.start), (vec![1, 2, 3, 4], vec![3, 4, 6, 7], at(5, 2)));
    // The first of epoch 2 is covered.
    let loaded = load(&store, "a", after(at(2, 3))).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![2, 3, 4], at(5, 3)));
    // All of epoch 2 is covered, however far the position says: 6 was born in another.
    let loaded = load(&store, "a", after(at(2, 100))).await;
    assert_eq!((ids(&loaded), loaded.start), (vec![3, 4], at(5, 5)));
    // An epoch that has not been is no news.
    assert_eq!(ids(&load(&store, "a", after(at(6, 100))).await), [1, 2, 3, 4]);
    assert_eq!(store.ack(&key("a"), at(6, 100), NOW).await.unwrap(), []);
    // The position of a load that acknowledges takes out what it covers.
    let loaded = load(&store, "a", Read { acknowledges: true, ..after(at(4, 6)) }).await;
    assert_eq!((ids(&loaded), loaded.finished.len(), loaded.start), (vec![4], 3, at(5, 6)));
    // Nothing is left that an old position does not cover.
    store.ack(&key("a"), at(5, 7), NOW).await.unwrap();
    let loaded = load(&store, "a", after(at(1, 1))).await;
    assert_eq!((loaded.start, loaded.through), (at(5, 7), Seq(7)));
}

/// Pages by count and by size; one message always fits.
pub(crate) async fn pages<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", 1..=5).await;
    let loaded = load(&store, "a", Read { max_messages: 2, ..ALL }).await;
    assert_eq!((seqs(&loaded), loaded.through, loaded.more), (vec![1, 2], Seq(2), true));
    let loaded = load(&store, "a", Read { max_bytes: 1, ..after(at(5, 2)) }).await;
    assert_eq!((seqs(&loaded), loaded.through, loaded.more), (vec![3], Seq(3), true));
    let loaded = load(&store, "a", Read { max_messages: 2, ..after(at(5, 3)) }).await;
    assert_eq!((seqs(&loaded), loaded.through, loaded.more), (vec![4, 5], Seq(5), false));
}

/// What is over is not delivered, and leaves the inbox with its reason.
pub(crate) async fn expired_is_skipped<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    let short = Staging { expires_ms: NOW + 10, ..staging("a", 2) };
    let staged = stage(&store, vec![staging("a", 1), short, staging("a", 3)]).await;
    store.publish(&staged, NOW).await.unwrap();
    assert_eq!(store.depth(&key("a"), NOW + 10).await.unwrap(), 2);
    let loaded = store.load(&key("a"), ALL, 9, NOW + 10).await.unwrap();
    assert_eq!((seqs(&loaded), loaded.through), (vec![1, 3], Seq(3)));
    let finished: Vec<_> = loaded.finished.iter().map(|f| (f.row, f.state)).collect();
    assert_eq!(finished, [(Row(2), State::Expired)]);
}

/// The oldest make room, once the archive knows; a withdrawn batch pushes nothing out.
pub(crate) async fn a_full_inbox_pushes_out<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    let capped = |id| Staging { cap: 2, ..staging("a", id) };
    let staged = stage(&store, vec![capped(1), capped(2)]).await;
    store.publish(&staged, NOW).await.unwrap();
    let staged = stage(&store, vec![capped(3)]).await;
    assert_eq!(staged[0].pushed_out, [Row(1)]);
    assert_eq!(seqs(&load(&store, "a", ALL).await), [1, 2]);
    store.withdraw(&staged).await.unwrap();
    assert_eq!(seqs(&load(&store, "a", ALL).await), [1, 2]);
    // Three at once push out two, and the first of themselves.
    let staged = stage(&store, vec![capped(4), capped(5), capped(6)]).await;
    let out: Vec<_> = staged.iter().flat_map(|s| s.pushed_out.clone()).collect();
    assert_eq!(out, [Row(1), Row(2), Row(4)]);
    store.publish(&staged, NOW).await.unwrap();
    assert_eq!(ids(&load(&store, "a", ALL).await), [5, 6]);
}

/// A message that is loaded again and again becomes a dead letter; the others do not suffer.
pub(crate) async fn loads_are_counted<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", 1..=2).await;
    let first = Read { max_messages: 1, ..ALL };
    for _ in 0..3 {
        let loaded = store.load(&key("a"), first, 3, NOW).await.unwrap();
        assert_eq!((seqs(&loaded), loaded.finished.len()), (vec![1], 0));
    }
    let loaded = store.load(&key("a"), first, 3, NOW).await.unwrap();
    assert_eq!(seqs(&loaded), [2]);
    assert_eq!(loaded.finished[0].state, State::MaxLoads);
}

/// A recall takes one message out, wherever it lies.
pub(crate) async fn recalls<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", 1..=3).await;
    let finished = store.recall(&key("a"), MessageId(2)).await.unwrap().unwrap();
    assert_eq!((finished.row, finished.state), (Row(2), State::Recalled));
    assert_eq!(store.recall(&key("a"), MessageId(2)).await.unwrap(), None);
    assert_eq!(seqs(&load(&store, "a", ALL).await), [1, 3]);
}

/// A restart forgets everything and numbers in a new epoch; rebuilds under way are turned away.
pub(crate) async fn restarts<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    append(&store, "a", 1..=3).await;
    let stale = store.absent(&[key("b")]).await.unwrap();
    store.restart(Epoch(9)).await.unwrap();
    assert_eq!(store.epoch(), Epoch(9));
    store.rebuild(&stale[0], vec![surviving(7, at(5, 1))], NOW).await.unwrap();
    assert_eq!(store.absent(&[key("a"), key("b")]).await.unwrap().len(), 2);
    bring(&store, "a", vec![surviving(3, at(5, 3))]).await;
    append(&store, "a", [4]).await;
    let loaded = load(&store, "a", after(at(5, 2))).await;
    assert_eq!((seqs(&loaded), loaded.start), (vec![3, 4], at(9, 2)));
}

/// A rebuild that comes second changes nothing.
pub(crate) async fn the_first_rebuild_wins<S: InboxStore>(store: S) {
    let absent = store.absent(&[key("a")]).await.unwrap();
    bring(&store, "a", vec![]).await;
    append(&store, "a", [1]).await;
    store.rebuild(&absent[0], vec![surviving(7, at(2, 9))], NOW).await.unwrap();
    assert_eq!(ids(&load(&store, "a", ALL).await), [1]);
}

/// An inbox is overdue when a message has been there for too long, and is named once until it is watched again.
pub(crate) async fn overdue_inboxes<S: InboxStore>(store: S) {
    bring(&store, "a", vec![]).await;
    bring(&store, "b", vec![]).await;
    append(&store, "a", [1, 2]).await;
    append(&store, "b", [3]).await;
    store.ack(&key("b"), at(5, 1), NOW).await.unwrap();
    assert_eq!(store.overdue(NOW + 99, 100, 9).await.unwrap(), []);
    assert_eq!(store.overdue(NOW + 100, 100, 9).await.unwrap(), [key("a")]);
    assert_eq!(store.overdue(NOW + 500, 100, 9).await.unwrap(), []);
    let waiting = store.waiting(&key("a"), NOW).await.unwrap().unwrap();
    assert_eq!((waiting.reaches, waiting.id), (at(5, 2), MessageId(2)));
    store.watch(&key("a"), NOW + 500).await.unwrap();
    assert_eq!(store.overdue(NOW + 700, 100, 9).await.unwrap(), [key("a")]);
}

/// Makes a test of each case for one back end.
macro_rules! suite {
    ($make:expr) => {
        $crate::inbox::conformance::suite!($make;
            absent_until_rebuilt, numbers_in_order, staged_is_invisible, withdrawn_numbers_stay_unused,
            acks_are_cumulative, positions_of_earlier_epochs, pages, expired_is_skipped,
            a_full_inbox_pushes_out, loads_are_counted, recalls, restarts, the_first_rebuild_wins,
            overdue_inboxes
        );
    };
    ($make:expr; $($case:ident),*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::inbox::conformance::$case($make(wire::id::Epoch(5))).await;
            }
        )*
    };
}
pub(crate) use suite;
