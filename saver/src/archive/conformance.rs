//! What every archive must do. A back end's tests run all of it: `conformance::suite!(make)`, where `make().await`
//! gives an empty archive and whatever must live as long.

use bytes::Bytes;
use proto::internal::App;
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId, Position, Seq, Uid};

use super::*;
use crate::model::{InboxKey, Row, State};

mod credits;
pub(crate) use credits::*;
mod directory;
pub(crate) use directory::*;
mod jobs;
pub(crate) use jobs::*;
mod logs;
pub(crate) use logs::*;
mod schedule;
pub(crate) use schedule::*;
mod shared;
pub(crate) use shared::*;
mod walks;
pub(crate) use walks::*;

const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;
const LATER: u64 = NOW + 1_000_000;
const APP: AppId = AppId(1);

fn key(uid: &str) -> InboxKey {
    InboxKey::new(APP, Uid::new(uid).unwrap())
}

/// The `n`th id of the test's time.
fn id(n: u64) -> MessageId {
    MessageId(MessageId::from_parts(NOW, 1, 0).0 + n)
}

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn delivery(row: Row, n: u64, uid: &str, seq: u64) -> NewDelivery {
    NewDelivery {
        row,
        id: id(n),
        key: key(uid),
        position: at(5, seq),
        accepted_ms: NOW,
        expires_ms: LATER,
        payload_bytes: 1,
        collapse: None,
    }
}

fn unicast(n: u64, uid: &str, seq: u64) -> NewDelivery {
    delivery(Row::unicast(id(n)), n, uid, seq)
}

fn body(n: u64) -> Body {
    Body { id: id(n), payload: Bytes::from(n.to_string()) }
}

fn group(deliveries: Vec<NewDelivery>) -> Group {
    let mut bodies: Vec<Body> = deliveries.iter().map(|d| body(d.id.0 - id(0).0)).collect();
    bodies.dedup_by_key(|b| b.id);
    Group { bodies, deliveries, now_ms: NOW, ..Group::default() }
}

fn finish(rows: &[(Row, State)]) -> Group {
    Group { finished: rows.to_vec(), now_ms: NOW, ..Group::default() }
}

async fn multicast<A: Archive>(archive: &A, n: u64, uids: &[&str], seq: u64) -> Vec<Row> {
    let first = archive.row_block().await.unwrap();
    let rows: Vec<Row> = (0..uids.len()).map(|i| Row(first.0 - i as i64)).collect();
    let list = rows.iter().zip(uids).map(|(row, uid)| delivery(*row, n, uid, seq)).collect();
    archive.commit(&group(list)).await.unwrap();
    rows
}

async fn state_of<A: Archive>(archive: &A, n: u64) -> Vec<State> {
    archive.deliveries_of(APP, id(n)).await.unwrap().0.iter().map(|d| d.state).collect()
}

async fn payloads<A: Archive>(archive: &A, ns: &[u64]) -> usize {
    archive.payloads(&ns.iter().map(|n| id(*n)).collect::<Vec<_>>()).await.unwrap().len()
}

pub(crate) async fn epochs_and_rows_are_given_once<A: Archive>(archive: A) {
    let (a, b) = (archive.begin_epoch().await.unwrap(), archive.begin_epoch().await.unwrap());
    assert!(b > a);
    let (a, b) = (archive.row_block().await.unwrap(), archive.row_block().await.unwrap());
    assert!(a.is_multicast() && a.0.abs_diff(b.0) >= ROW_BLOCK);
}

pub(crate) async fn inboxes_survive_in_order<A: Archive>(archive: A) {
    let list = vec![unicast(1, "a", 1), unicast(2, "b", 1), unicast(3, "a", 2), unicast(4, "a", 3)];
    archive.commit(&group(list)).await.unwrap();
    archive.commit(&finish(&[(Row::unicast(id(3)), State::Acked)])).await.unwrap();
    let found = archive.surviving(&[key("a"), key("nobody"), key("b")]).await.unwrap();
    let seqs = |n: usize| found[n].iter().map(|s| (s.id, s.birth)).collect::<Vec<_>>();
    assert_eq!(seqs(0), [(id(1), at(5, 1)), (id(4), at(5, 3))]);
    assert_eq!((seqs(1).len(), seqs(2)), (0, vec![(id(2), at(5, 1))]));
    let many: Vec<InboxKey> = (0..700).map(|n| key(&format!("x{n}"))).chain([key("b")]).collect();
    assert_eq!(archive.surviving(&many).await.unwrap()[700].len(), 1);
    assert_eq!(archive.greatest_id().await.unwrap(), id(4));
}

/// A group with something that is there already leaves no trace.
pub(crate) async fn groups_are_all_or_nothing<A: Archive>(archive: A) {
    archive.commit(&group(vec![unicast(1, "a", 1)])).await.unwrap();
    let mut bad = group(vec![unicast(2, "a", 2), unicast(1, "b", 1)]);
    bad.finished.push((Row::unicast(id(1)), State::Acked));
    assert!(matches!(archive.commit(&bad).await, Err(ArchiveError::Conflict(_))));
    assert_eq!(archive.surviving(&[key("a")]).await.unwrap()[0].len(), 1);
    assert_eq!(payloads(&archive, &[1, 2]).await, 1);
    archive.commit(&group(vec![unicast(2, "a", 2)])).await.unwrap();
    assert_eq!(archive.surviving(&[key("a")]).await.unwrap()[0].len(), 2);
}

/// A state that is final stays: so the ledger balances, whoever comes second.
pub(crate) async fn final_states_are_final<A: Archive>(archive: A) {
    archive.commit(&group((1..=6).map(|n| unicast(n, "a", n)).collect())).await.unwrap();
    let rows: Vec<_> = (1..=6).map(|n| Row::unicast(id(n))).zip(State::FINAL).collect();
    archive.commit(&finish(&rows)).await.unwrap();
    // Only a dead letter keeps its payload.
    assert_eq!(payloads(&archive, &[1, 2, 3, 4, 5, 6]).await, 1);
    let again: Vec<_> = rows.iter().map(|(row, _)| (*row, State::Acked)).collect();
    archive.commit(&finish(&again)).await.unwrap();
    for (n, state) in (1..=6).zip(State::FINAL) {
        assert_eq!(state_of(&archive, n).await, [state]);
    }
}

pub(crate) async fn multicasts_share_a_payload<A: Archive>(archive: A) {
    let rows = multicast(&archive, 1, &["a", "b", "c"], 1).await;
    archive.commit(&group(vec![unicast(2, "a", 2)])).await.unwrap();
    archive.commit(&finish(&[(rows[0], State::Acked), (rows[1], State::Acked)])).await.unwrap();
    assert_eq!(payloads(&archive, &[1, 2]).await, 2);
    let (list, is_multicast) = archive.deliveries_of(APP, id(1)).await.unwrap();
    assert_eq!((list.len(), is_multicast), (3, true));
    assert_eq!(list.iter().filter(|d| d.state == State::Acked).count(), 2);
    assert_eq!(archive.deliveries_of(AppId(2), id(1)).await.unwrap().0.len(), 0);
    let (list, is_multicast) = archive.deliveries_of(APP, id(2)).await.unwrap();
    assert_eq!((list.len(), is_multicast), (1, false));
    // A later part of the same message, to others.
    multicast(&archive, 1, &["d"], 1).await;
    assert_eq!(archive.deliveries_of(APP, id(1)).await.unwrap().0.len(), 4);
    assert_eq!(archive.surviving(&[key("c")]).await.unwrap()[0][0].id, id(1));
}

pub(crate) async fn tells_what_is_recorded<A: Archive>(archive: A) {
    archive.commit(&group(vec![unicast(1, "a", 1)])).await.unwrap();
    let rows = multicast(&archive, 2, &["a", "b"], 2).await;
    archive.commit(&finish(&[(rows[1], State::Acked)])).await.unwrap();
    let wanted = |n, uid, multicast| Wanted { id: id(n), key: key(uid), multicast };
    let list = [wanted(1, "a", false), wanted(2, "b", true), wanted(2, "c", true), wanted(3, "a", false)];
    let found = archive.recorded(&list).await.unwrap();
    let short: Vec<_> = found.iter().map(|r| r.as_ref().map(|r| (r.position, r.state))).collect();
    assert_eq!(short, [Some((at(5, 1), State::Stored)), Some((at(5, 2), State::Acked)), None, None]);
    // The id of a message to one user says whose it is, also to another.
    let other = archive.recorded(&[wanted(1, "z", false)]).await.unwrap().remove(0).unwrap();
    assert_eq!(other.uid.as_str(), "a");
}

/// Case, accents and trailing spaces tell users and keys apart.
pub(crate) async fn names_are_compared_byte_by_byte<A: Archive>(archive: A) {
    let names = ["u", "U", "u ", "ü", "u\u{308}", "\u{1F600}"];
    let list = (1..).zip(names).map(|(n, name)| unicast(n, name, n)).collect();
    archive.commit(&group(list)).await.unwrap();
    multicast(&archive, 90, &names[..3], 9).await;
    let found = archive.surviving(&names.map(key)).await.unwrap();
    for (n, inbox) in (1..).zip(&found) {
        let multicast = n <= 3;
        assert_eq!((inbox[0].id, inbox.len()), (id(n), 1 + usize::from(multicast)), "{n}");
        let wanted = Wanted { id: id(90), key: key(names[n as usize - 1]), multicast: true };
        assert_eq!(archive.recorded(&[wanted]).await.unwrap()[0].is_some(), multicast);
    }
    let place = |n| Cursor { epoch: Epoch(3), bseq: Bseq(n) };
    let cursors = (1..).zip(names).map(|(n, name)| (key(name), place(n))).collect();
    archive.commit(&Group { cursors, ..Group::default() }).await.unwrap();
    let cursors = archive.cursors(&names.map(key)).await.unwrap();
    assert_eq!(cursors, (1..=6).map(|n| Some(place(n))).collect::<Vec<_>>());
    let word = |n: u64, name: &str| Reservation {
        app: APP,
        word: name.to_owned(),
        id: id(n),
        fingerprint: Bytes::new(),
        expires_ms: LATER,
    };
    let reservations = (1..).zip(names).chain([(9, "u")]).map(|(n, name)| word(n, name)).collect();
    let group = Group { reservations, now_ms: NOW, ..Group::default() };
    let tied = archive.commit(&group).await.unwrap().reservations;
    assert_eq!(
        tied.iter().map(|r| r.repeated).collect::<Vec<_>>(),
        [false, false, false, false, false, false, true]
    );
    let app = |name: &str| App { key: name.to_owned(), ..App::default() };
    let apps = archive.commit(&Group { apps: names.map(app).into(), ..Group::default() }).await.unwrap().apps;
    assert!(apps.iter().all(Result::is_ok));
}

/// Makes a test of each case for one back end.
macro_rules! suite {
    ($make:expr) => {
        $crate::archive::conformance::suite!($make;
            epochs_and_rows_are_given_once, inboxes_survive_in_order, groups_are_all_or_nothing,
            final_states_are_final, multicasts_share_a_payload, tells_what_is_recorded, cursors_move_forward,
            broadcasts_are_numbered, newcomers_begin_where_they_were,
            reservations_tie_a_word, keeps_the_directory, walks_what_is_over,
            forgets_what_finished_long_ago, finds_what_was_stored_lately, lands_what_became_of_it,
            landing_again_changes_nothing, lands_after_a_commit, lands_multicasts, what_was_forgotten_stays_so,
            many_may_land_at_once, a_shared_store_has_one_life, lands_tied_words, names_are_compared_byte_by_byte,
            collapse_keys_survive, lands_collapse_keys, pages_the_users_of_a_message, keeps_pushes_for_later,
            keeps_offsets, slices_follow_their_job, changes_need_the_revision, a_recall_stops_a_job,
            forgets_jobs_that_ended, jobs_are_bounded, many_may_release_at_once, parts_never_fall,
            broadcasts_count_once, many_may_count_at_once, random_acks_count_once
        );
    };
    ($make:expr; $($case:ident),*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (archive, _keep) = $make().await;
                $crate::archive::conformance::$case(archive).await;
            }
        )*
    };
}
pub(crate) use suite;
