//! What every archive must count of broadcasts.

use std::collections::{BTreeMap, BTreeSet};

use proto::internal::Part;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

fn place(bseq: u64) -> Cursor {
    Cursor { epoch: Epoch(3), bseq: Bseq(bseq) }
}

/// Entries 1, 2, … are of the broadcasts with the same numbers.
fn passed(uid: &str, bseq: u64, credits: &[(u64, CreditKind)]) -> Passed {
    let credit = |(n, kind): &(u64, CreditKind)| Credit { bseq: Bseq(*n), id: id(*n), kind: *kind };
    Passed { key: key(uid), cursor: place(bseq), credits: credits.iter().map(credit).collect() }
}

fn acked(uid: &str, bseq: u64, list: &[u64]) -> Passed {
    passed(uid, bseq, &list.iter().map(|n| (*n, CreditKind::Acked)).collect::<Vec<_>>())
}

fn counting(passed: Vec<Passed>) -> Group {
    Group { passed, now_ms: NOW, ..Group::default() }
}

async fn counts<A: Archive>(archive: &A, n: u64) -> Counts {
    archive.broadcast_counts(APP, &[id(n)]).await.unwrap()[0].unwrap()
}

async fn with_broadcasts<A: Archive>(archive: &A, most: u64) {
    let broadcasts = (1..=most).map(|n| broadcast(n, LATER)).collect();
    archive.commit(&Group { broadcasts, now_ms: NOW, ..Group::default() }).await.unwrap();
}

pub(crate) async fn broadcasts_count_once<A: Archive>(archive: A) {
    use CreditKind::{Acked, Dropped, Expired, Recalled};
    with_broadcasts(&archive, 6).await;
    assert_eq!(counts(&archive, 1).await, Counts::default());
    assert_eq!(archive.broadcast_counts(AppId(2), &[id(1)]).await.unwrap(), [None]);
    // A user without a cursor, and the same again.
    let first = passed("a", 4, &[(1, Acked), (2, Expired), (3, Recalled), (4, Dropped)]);
    for _ in 0..2 {
        archive.commit(&counting(vec![first.clone(), first.clone()])).await.unwrap();
    }
    assert_eq!(counts(&archive, 1).await, Counts { acked: 1, ..Counts::default() });
    assert_eq!(counts(&archive, 2).await, Counts { expired: 1, ..Counts::default() });
    assert_eq!(counts(&archive, 3).await, Counts { recalled: 1, ..Counts::default() });
    assert_eq!(counts(&archive, 4).await, Counts { dropped: 1, ..Counts::default() });
    // Two of one user in one transaction; what lies beyond its own cursor does not count.
    let list = vec![acked("a", 5, &[4, 5, 6]), acked("a", 6, &[5, 6]), acked("b", 2, &[1, 2])];
    archive.commit(&counting(list)).await.unwrap();
    let now: Vec<_> = [1, 2, 4, 5, 6].map(id).to_vec();
    let now = archive.broadcast_counts(APP, &now).await.unwrap();
    assert_eq!(now.iter().map(|c| c.unwrap().acked).collect::<Vec<_>>(), [2, 1, 0, 1, 1]);
    assert_eq!(archive.cursors(&[key("a"), key("b")]).await.unwrap(), [Some(place(6)), Some(place(2))]);
    // A plain cursor, a newcomer, and one that counts, of one user in one group.
    let group = Group {
        cursors: vec![(key("c"), place(6))],
        newcomers: vec![Newcomer { key: key("c"), own: None }],
        ..counting(vec![acked("c", 1, &[1])])
    };
    archive.commit(&group).await.unwrap();
    assert_eq!(counts(&archive, 1).await.acked, 3);
    assert_eq!(archive.cursors(&[key("c")]).await.unwrap(), [Some(place(6))]);
    archive.commit(&counting(vec![acked("c", 6, &[2])])).await.unwrap();
    assert_eq!(counts(&archive, 2).await.acked, 1, "the kept cursor was beyond it");
    // What is not known any more counts for nothing.
    archive.commit(&counting(vec![acked("d", 99, &[99])])).await.unwrap();
    assert_eq!(archive.broadcast_counts(APP, &[id(99)]).await.unwrap(), [None]);
}

pub(crate) async fn parts_never_fall<A: Archive>(archive: A) {
    with_broadcasts(&archive, 2).await;
    let part = |n, room, incarnation, sent| Part { app: APP.0, id: id(n).0, room, incarnation, sent };
    let parts =
        vec![part(1, 1, 1, 10), part(1, 1, 2, 5), part(1, 2, 1, 7), part(2, 1, 1, 1), part(9, 1, 1, 1)];
    for parts in [parts, vec![part(1, 1, 1, 9), part(1, 1, 2, 6), Part { app: 2, ..part(1, 3, 1, 100) }]] {
        assert!(matches!(write(&archive, JobWrite::Parts(parts)).await, JobWritten::Noted));
    }
    assert_eq!((counts(&archive, 1).await.sent, counts(&archive, 2).await.sent), (23, 1));
}

/// Several savers count for the same users, among them some who had no cursor.
pub(crate) async fn many_may_count_at_once<A: Archive>(archive: A) {
    with_broadcasts(&archive, 40).await;
    let uids: Vec<String> = (0..30).map(|n| format!("u{n}")).collect();
    for n in (1..=40).step_by(4) {
        let group = |skip: usize, to: u64| {
            let of = |uid: &String| acked(uid, to, &(1..=to).collect::<Vec<_>>());
            counting(uids.iter().cycle().skip(skip).take(uids.len()).map(of).collect())
        };
        let groups: Vec<Group> = (0..4).map(|k| group(k * 7, n + k as u64)).collect();
        let done = futures::future::join_all(groups.iter().map(|g| archive.commit(g))).await;
        assert!(done.into_iter().all(|r| r.is_ok()));
    }
    for n in 1..=40 {
        assert_eq!(counts(&archive, n).await.acked, 30, "{n}");
    }
}

/// Rooms tell what they have not had confirmed again and again, in any order, beside each other; some say less.
pub(crate) async fn random_acks_count_once<A: Archive>(archive: A) {
    const LAST: u64 = 24;
    with_broadcasts(&archive, LAST).await;
    for seed in 0..8u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let uids: Vec<String> = (0..6).map(|n| format!("{seed}-{n}")).collect();
        let before: Vec<u64> = {
            let now = archive.broadcast_counts(APP, &(1..=LAST).map(id).collect::<Vec<_>>()).await.unwrap();
            now.iter().map(|c| c.unwrap().acked).collect()
        };
        let mut kept: BTreeMap<&str, u64> = BTreeMap::new();
        let mut counted: BTreeSet<(u64, &str)> = BTreeSet::new();
        for _ in 0..60 {
            let mut list = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let uid = uids[rng.random_range(0..uids.len())].as_str();
                let to = rng.random_range(1..=LAST);
                let told: Vec<u64> = (1..=LAST).filter(|_| rng.random_bool(0.7)).collect();
                list.push(acked(uid, to, &told));
                // What an archive must make of it.
                let from = kept.get(uid).copied().unwrap_or(0);
                let new = told.iter().copied().filter(|n| *n > from && *n <= to);
                new.for_each(|n| assert!(counted.insert((n, uid)), "seed {seed}"));
                kept.insert(uid, from.max(to));
            }
            let again = rng.random_bool(0.3);
            for _ in 0..1 + usize::from(again) {
                archive.commit(&counting(list.clone())).await.unwrap();
            }
        }
        for n in 1..=LAST {
            let wanted = counted.iter().filter(|(of, _)| *of == n).count() as u64;
            let is = counts(&archive, n).await.acked - before[n as usize - 1];
            assert_eq!(is, wanted, "seed {seed}, broadcast {n}");
        }
    }
}
