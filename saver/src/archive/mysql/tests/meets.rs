//! Several savers on one server.

use std::time::Duration;

use super::*;

async fn pair() -> (MySqlArchive, MySqlArchive, Place) {
    let (a, place) = make().await;
    let b = MySqlArchive::open(&place.settings()).await.unwrap();
    (a, b, place)
}

fn finished(list: &[(u64, State)]) -> Group {
    let finished = list.iter().map(|(n, state)| (row(*n), *state)).collect();
    Group { finished, now_ms: NOW, ..Group::default() }
}

/// Each transaction ends what the other is about to end, in the other order: the server breaks one of them off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_are_tried_again() {
    let (a, b, place) = pair().await;
    a.commit(&group(0, 400, 10)).await.unwrap();
    for n in (0..400).step_by(20) {
        let halves = |first, second| {
            finished(&(n..n + 20).map(|k| (k, if k < n + 10 { first } else { second })).collect::<Vec<_>>())
        };
        let (acked, expired) = (halves(State::Acked, State::Expired), halves(State::Expired, State::Acked));
        let (x, y) = tokio::join!(a.commit(&acked), b.commit(&expired));
        assert!(x.is_ok() && y.is_ok(), "{x:?} {y:?}");
    }
    assert_eq!(there(&a, 0, 400).await, (400, 0));
    drop(place);
}

/// A transaction that is broken off for certain: both wait until each has its first lock.
#[tokio::test]
async fn a_deadlock_is_judged_as_such() {
    let (a, b, _place) = pair().await;
    a.commit(&group(0, 2, 10)).await.unwrap();
    let meet = tokio::sync::Barrier::new(2);
    let cross = async |archive: &MySqlArchive, first: u64, second: u64| {
        let work = async |c: &mut MySqlConnection| {
            bulk::finish(c, &[(row(first), State::Acked)]).await?;
            meet.wait().await;
            Ok(bulk::finish(c, &[(row(second), State::Acked)]).await?)
        };
        archive.attempt(work).await
    };
    let (x, y) = tokio::join!(cross(&a, 0, 1), cross(&b, 1, 0));
    let error = x.and(y).unwrap_err();
    assert_eq!(error, (ArchiveError::Locked, Verdict::Again));
    assert_eq!(there(&a, 0, 2).await, (2, 0));
}

/// An ack that comes while the landing of its delivery is not yet committed waits for it. If it did not, the delivery
/// would be acked in the ledger and still be in its inbox, or the other way round.
#[tokio::test]
async fn an_ack_waits_for_a_landing() {
    let (a, b, _place) = pair().await;
    let landing = landing(0, 50, State::Stored);
    let written = tokio::sync::Barrier::new(2);
    let land = async |c: &mut MySqlConnection| {
        shared::land(c, &landing, shared::Care::Glance).await?;
        written.wait().await;
        // The ack is to come before the commit.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    };
    let acks = finished(&(0..50).map(|n| (n, State::Acked)).collect::<Vec<_>>());
    let ack = async {
        written.wait().await;
        b.commit(&acks).await
    };
    let (landed, acked) = tokio::join!(a.attempt(land), ack);
    assert!(landed.is_ok() && acked.is_ok());
    let key = delivery(0).key;
    assert_eq!(a.surviving(&[key]).await.unwrap()[0], []);
    let (list, _) = a.deliveries_of(AppId(1), id(7)).await.unwrap();
    assert_eq!((list[0].state, there(&a, 0, 50).await), (State::Acked, (50, 0)));
}

/// Of two that tie one key, or store one message, one is first, and both hear who.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_first() {
    let (a, b, _place) = pair().await;
    for n in 0..30 {
        let tie = |id_of: u64| {
            let word = |w: u64| super::super::super::Reservation {
                app: AppId(1),
                word: format!("order-{n}-{w}"),
                id: id(id_of + w),
                fingerprint: bytes::Bytes::from_static(b"x"),
                expires_ms: NOW + 10,
            };
            Group { reservations: (0..20).map(word).collect(), now_ms: NOW, ..Group::default() }
        };
        let (x, y) = (tie(n * 100), tie(n * 100 + 50));
        let (x, y) = tokio::join!(a.commit(&x), b.commit(&y));
        let (x, y) = (x.unwrap().reservations, y.unwrap().reservations);
        for (x, y) in x.iter().zip(&y) {
            assert_eq!(x.id, y.id);
            assert!(x.repeated != y.repeated, "{x:?} {y:?}");
        }
        let same = group(n * 10, 5, 10);
        let (x, y) = tokio::join!(a.commit(&same), b.commit(&same));
        assert!(matches!(
            (&x, &y),
            (Ok(_), Err(ArchiveError::Conflict(_))) | (Err(ArchiveError::Conflict(_)), Ok(_))
        ));
    }
}

/// Savers that start together on a new database, also on one where another was killed half way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_database() {
    for half_done in [false, true] {
        let place = Place::new().await;
        if half_done {
            let first = include_str!("../../../../migrations-mysql/0001_archive.sql");
            let (tables, _) = first.split_at(first.find("CREATE TABLE IF NOT EXISTS inbox").unwrap());
            place.run(tables).await;
        }
        let open = || {
            let settings = place.settings();
            tokio::spawn(
                async move { MySqlArchive::open(&settings).await.unwrap().begin_epoch().await.unwrap() },
            )
        };
        let opened: Vec<_> = (0..6).map(|_| open()).collect();
        let mut epochs = std::collections::HashSet::new();
        for one in opened {
            assert!(epochs.insert(one.await.unwrap()));
        }
        // Greater than those of a database that was here some years ago.
        assert!(epochs.iter().all(|e| e.0 > 10_000_000));
    }
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let (archive, place) = make().await;
    archive.close().await;
    assert!(matches!(archive.begin_epoch().await, Err(ArchiveError::Io(_))));
    place.run("INSERT INTO schema_version VALUES (99)").await;
    let error = MySqlArchive::open(&place.settings()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive is damaged: its version is 99, and this program knows up to 2"
    );
}

/// A caller that goes away half way leaves nothing behind, neither a row nor a lock.
#[tokio::test]
async fn what_is_dropped_half_way_is_undone() {
    let (archive, _place) = make().await;
    for n in 0..12 {
        let part = group(n * 10, 5, 10);
        let work = async |c: &mut MySqlConnection| {
            bulk::write(c, &part).await?;
            std::future::pending::<Result<(), Failed>>().await
        };
        let dropped = tokio::time::timeout(Duration::from_millis(50), archive.attempt(work)).await;
        assert!(dropped.is_err());
    }
    for n in 0..12 {
        archive.commit(&group(n * 10, 5, 10)).await.unwrap();
    }
}
