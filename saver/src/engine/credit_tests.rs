//! What rooms count of broadcasts: each user once, whatever is told again, fails or dies.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use proto::internal::{Job, JobState, ReleaseJobRequest};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wire::id::{Bseq, Cursor, Epoch};

use super::{tests::*, *};
use crate::archive::{ArchiveError, Counts, Credit, CreditKind, NewBroadcast};

fn broadcast(n: u64) -> NewBroadcast {
    NewBroadcast {
        app: APP,
        id: id(n),
        payload: Bytes::from_static(b"x"),
        audience: String::new(),
        filter: None,
        accepted_ms: NOW,
        expires_ms: NOW + 60_000,
    }
}

/// Everything up to an entry; broadcast `n` is entry `n`.
fn acked(uid: &str, epoch: Epoch, from: u64, to: u64) -> AckItem {
    let credit = |n| Credit { bseq: Bseq(n), id: id(n), kind: CreditKind::Acked };
    AckItem {
        key: key(uid),
        inbox: None,
        cursor: Some(Cursor { epoch, bseq: Bseq(to) }),
        credits: (from + 1..=to).map(credit).collect(),
    }
}

impl Rig {
    async fn told(&self, item: AckItem) -> Result<(), Refused> {
        // Nothing waits for company.
        let (told, _) = tokio::join!(self.engine.ack(vec![item]), self.engine.flush());
        told
    }

    async fn counts(&self, n: u64) -> Counts {
        self.ledger(n).await.counts.unwrap()
    }
}

#[tokio::test]
async fn what_is_not_written_is_told_and_counts_once() {
    let rig = Rig::new().await;
    let epoch = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place.epoch;
    rig.engine.append_broadcast(broadcast(2)).await.unwrap();
    for done in [false, true] {
        let n = 1 + u64::from(done);
        let lost = ArchiveError::Io("the answer is lost".to_owned());
        *rig.fault.lock().unwrap() = Some((done, lost.clone()));
        let item = acked("a", epoch, n - 1, n);
        assert_eq!(rig.told(item.clone()).await, Err(lost.into()));
        for _ in 0..2 {
            rig.told(item.clone()).await.unwrap();
        }
        assert_eq!(rig.counts(n).await, Counts { acked: 1, ..Counts::default() });
    }
    assert!(rig.ledger(1).await.broadcast.is_some());
}

/// A room died with an ack that was not confirmed yet. The user's next bind would have been told a place whose
/// broadcasts nobody had counted.
#[tokio::test]
async fn a_bind_sees_only_what_was_counted() {
    let rig = Rig::new().await;
    let epoch = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place.epoch;
    let item = acked("a", epoch, 0, 1);
    let bind = || LoadItem { key: key("a"), read: ALL, bind: true, own_cursor: None, utc_offset_min: None };
    let (told, bound) = tokio::join!(rig.engine.ack(vec![item]), rig.engine.load(vec![bind()]));
    told.unwrap();
    let cursor = bound[0].as_ref().unwrap().cursor.unwrap();
    assert_eq!(
        (cursor.bseq, rig.engine.archive().cursors(&[key("a")]).await.unwrap()),
        (Bseq(1), vec![Some(cursor)])
    );
    assert_eq!(rig.counts(1).await.acked, 1);
}

/// An ack that waited for a writer which was gone waited for ever.
#[tokio::test]
async fn the_end_is_told_to_those_who_wait() {
    let rig = Rig::new().await;
    let epoch = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place.epoch;
    let engine = rig.engine.clone();
    let rig = rig.again().await;
    assert_eq!(engine.ack(vec![acked("a", epoch, 0, 1)]).await, Err(Refused::Ending));
    rig.told(acked("a", epoch, 0, 1)).await.unwrap();
    assert_eq!(rig.counts(1).await.acked, 1);
}

/// Rooms tell again what was not confirmed, with what has come since, while commits fail, whether they were done or
/// not, and savers die.
#[tokio::test]
async fn each_user_counts_once_through_faults_and_deaths() {
    const USERS: u64 = 6;
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut rig = Rig::new().await;
        let epoch = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place.epoch;
        let mut head = 1;
        // What each user's device has acked, and how far that was confirmed.
        let mut places: BTreeMap<String, (u64, u64)> =
            (0..USERS).map(|n| (format!("u{n}"), (0, 0))).collect();
        for _ in 0..40 {
            match rng.random_range(0..10) {
                0..4 => {
                    head += 1;
                    let appended = rig.engine.append_broadcast(broadcast(head)).await;
                    if appended.is_err() {
                        assert!(rig.engine.append_broadcast(broadcast(head)).await.is_ok());
                    }
                }
                4 => {
                    let lost = ArchiveError::Io("made up".to_owned());
                    *rig.fault.lock().unwrap() = Some((rng.random_bool(0.5), lost));
                }
                5 => {
                    // In the middle of a call.
                    for (uid, (acked_to, confirmed)) in &places {
                        let (engine, item) = (rig.engine.clone(), acked(uid, epoch, *confirmed, *acked_to));
                        tokio::spawn(async move { engine.ack(vec![item]).await });
                    }
                    let engine = rig.engine.clone();
                    tokio::spawn(async move { engine.flush().await });
                    for _ in 0..rng.random_range(0..30) {
                        tokio::task::yield_now().await;
                    }
                    rig = rig.killed().await;
                }
                _ => {
                    for (acked_to, _) in places.values_mut() {
                        if rng.random_bool(0.5) {
                            *acked_to = rng.random_range(*acked_to..=head);
                        }
                    }
                    let tell = places.iter().filter(|(_, (to, confirmed))| to > confirmed);
                    let calls = tell.map(|(uid, (to, confirmed))| async {
                        (uid.clone(), *to, rig.told(acked(uid, epoch, *confirmed, *to)).await)
                    });
                    for (uid, to, told) in join_all(calls).await {
                        if told.is_ok() {
                            places.get_mut(&uid).unwrap().1 = to;
                        }
                    }
                }
            }
        }
        *rig.fault.lock().unwrap() = None;
        for uid in places.keys() {
            // All of it once more: whoever told less had it confirmed.
            rig.told(acked(uid, epoch, 0, head)).await.unwrap();
        }
        for n in 1..=head {
            assert_eq!(rig.counts(n).await.acked, USERS, "seed {seed}, broadcast {n} of {head}");
        }
    }
}

/// A job's slices are in the log's cache as they are in the archive, and a recall takes all of them.
#[tokio::test]
async fn slices_are_read_like_any_entry() {
    let rig = Rig::new().await;
    rig.engine.append_broadcast(broadcast(1)).await.unwrap();
    let job = Job {
        id: id(2).0,
        app: APP.0,
        payload: Bytes::from_static(b"body"),
        audience: "ios".to_owned(),
        state: JobState::Running.into(),
        ..Job::default()
    };
    assert!(!rig.engine.put_job(job.clone()).await.unwrap().stale);
    assert!(rig.engine.put_job(job.clone()).await.unwrap().stale);
    assert_eq!(rig.engine.active_jobs().await.unwrap().len(), 1);
    let slice = |from, to| ReleaseJobRequest {
        app: APP.0,
        id: id(2).0,
        from,
        to,
        filter: Some(Default::default()),
        accepted_ms: NOW,
        expires_ms: NOW + 1000,
        last: to == 9,
    };
    for (from, to, bseq) in [(0, 4, 2), (4, 9, 3), (4, 9, 3)] {
        let done = rig.engine.release_job(slice(from, to)).await.unwrap();
        assert_eq!((done.place.unwrap().bseq, done.job.unwrap().released), (Bseq(bseq), to));
    }
    let stale = rig.engine.release_job(slice(9, 10)).await.unwrap();
    assert_eq!((stale.place, stale.job.unwrap().state()), (None, JobState::Released));
    let found = rig.engine.find_job(APP, id(2)).await.unwrap();
    assert_eq!(found.job.unwrap().payload, job.payload);
    let listed = rig.engine.list_jobs(APP, id(9), 5).await.unwrap();
    assert_eq!((listed.len(), listed[0].1), (1, Counts::default()));

    let cached = rig.engine.load_broadcasts(APP, Bseq(1), 9, 99).await.unwrap();
    let rig = rig.again().await;
    assert_eq!(rig.engine.load_broadcasts(APP, Bseq(1), 9, 99).await.unwrap(), cached);
    assert_eq!(cached.broadcasts.iter().map(|b| &*b.payload).collect::<Vec<_>>(), [b"body", b"body"]);
    assert!(rig.engine.recall_broadcast(APP, id(2)).await.unwrap());
    let recalled = rig.engine.load_broadcasts(APP, Bseq(1), 9, 99).await.unwrap();
    assert!(recalled.broadcasts.iter().all(|b| b.recalled && b.payload.is_empty()));
    assert!(!rig.engine.recall_broadcast(APP, id(2)).await.unwrap());
}
