//! What every archive must do with broadcast jobs.

use proto::internal::{ChangeJobRequest, Filter, Job, JobState, ReleaseJobRequest};

use super::*;

/// The end of the ring.
const RING: u64 = 1 << 32;

pub(super) fn job(n: u64) -> Job {
    Job {
        id: id(n).0,
        app: APP.0,
        payload: Bytes::from_static(b"0123456789"),
        audience: "ios".to_owned(),
        state: JobState::Running.into(),
        revision: 1,
        users_per_second: 100,
        accepted_ms: NOW,
        ..Job::default()
    }
}

pub(super) fn slice(n: u64, from: u64, to: u64) -> ReleaseJobRequest {
    ReleaseJobRequest {
        app: APP.0,
        id: id(n).0,
        from,
        to,
        filter: Some(Filter { hash_from: from, hash_below: to, ..Filter::default() }),
        accepted_ms: NOW,
        expires_ms: LATER,
        last: to == RING,
    }
}

fn change(n: u64, revision: u64, state: JobState) -> ChangeJobRequest {
    let mut change =
        ChangeJobRequest { app: APP.0, id: id(n).0, revision, now_ms: NOW + 7, ..Default::default() };
    change.set_state(state);
    change
}

pub(super) async fn write<A: Archive>(archive: &A, write: JobWrite) -> JobWritten {
    let group = Group { jobs: vec![write], now_ms: NOW, ..Group::default() };
    archive.commit(&group).await.unwrap().jobs.remove(0)
}

pub(super) async fn put<A: Archive>(archive: &A, job: Job) -> JobWritten {
    write(archive, JobWrite::Put(Box::new(job))).await
}

/// The entry's number, and whether it was there before.
pub(super) async fn release<A: Archive>(archive: &A, slice: ReleaseJobRequest) -> Option<(u64, bool)> {
    match write(archive, JobWrite::Release(Box::new(slice))).await {
        JobWritten::Released { entry, repeated, .. } => Some((entry.place.bseq.0, repeated)),
        JobWritten::Stale(_) => None,
        other => panic!("{other:?}"),
    }
}

async fn alter<A: Archive>(archive: &A, change: ChangeJobRequest) -> Option<Job> {
    match write(archive, JobWrite::Change(Box::new(change))).await {
        JobWritten::Kept(job) => Some(*job),
        JobWritten::Stale(_) => None,
        other => panic!("{other:?}"),
    }
}

fn recall(n: u64) -> Group {
    Group { broadcast_recalls: vec![(APP, id(n))], now_ms: NOW, ..Group::default() }
}

pub(crate) async fn slices_follow_their_job<A: Archive>(archive: A) {
    let new = Job { state: JobState::Scheduled.into(), filter: Some(Filter::default()), ..job(1) };
    assert!(matches!(put(&archive, new.clone()).await, JobWritten::Kept(job) if job.payload.is_empty()));
    assert!(matches!(put(&archive, Job { audience: String::new(), ..job(1) }).await, JobWritten::Stale(_)));
    assert!(matches!(put(&archive, Job { app: 2, ..job(1) }).await, JobWritten::IdTaken));
    assert_eq!(archive.job(APP, id(1)).await.unwrap(), Some(new.clone()));
    assert_eq!(archive.job(AppId(2), id(1)).await.unwrap(), None);
    assert_eq!(archive.active_jobs().await.unwrap().len(), 1);
    assert_eq!(archive.broadcast(APP, id(1)).await.unwrap(), None);
    assert_eq!(archive.greatest_id().await.unwrap(), id(1));

    assert_eq!(release(&archive, slice(1, 0, 100)).await, None, "not yet");
    assert!(alter(&archive, change(1, 1, JobState::Running)).await.is_some());
    assert_eq!(release(&archive, slice(1, 0, 100)).await, Some((1, false)));
    assert_eq!(release(&archive, slice(1, 0, 100)).await, Some((1, true)), "its answer was lost");
    assert_eq!(release(&archive, slice(1, 0, 200)).await, None, "another center was faster");
    assert_eq!(release(&archive, slice(1, 50, 200)).await, None);
    // A later broadcast does not wait.
    let plain = NewBroadcast {
        filter: Some(Filter { zones: vec!["a".into()], ..Filter::default() }),
        ..broadcast(2, LATER)
    };
    let group = Group { broadcasts: vec![plain.clone()], now_ms: NOW, ..Group::default() };
    assert_eq!(archive.commit(&group).await.unwrap().broadcasts[0].place.bseq, Bseq(2));
    assert_eq!(release(&archive, slice(1, 100, RING)).await, Some((3, false)));

    let page = archive.broadcasts(APP, Bseq(0), 9, 11, NOW).await.unwrap();
    assert_eq!((page.broadcasts.len(), page.more), (1, true), "another payload does not fit");
    let page = archive.broadcasts(APP, Bseq(0), 9, 20, NOW).await.unwrap();
    let filters: Vec<_> = page.broadcasts.iter().map(|b| (b.id, b.filter.clone())).collect();
    assert_eq!(filters[0], (id(1), slice(1, 0, 100).filter));
    assert_eq!(filters[1], (id(2), plain.filter));
    assert_eq!(filters[2], (id(1), slice(1, 100, RING).filter));
    assert!(page.broadcasts.iter().all(|b| b.payload == job(1).payload && b.audience == "ios"));

    let ended = archive.job(APP, id(1)).await.unwrap().unwrap();
    assert_eq!((ended.state(), ended.released, ended.ended_ms), (JobState::Released, RING, NOW));
    assert_eq!(archive.active_jobs().await.unwrap(), []);
    assert_eq!(alter(&archive, change(1, ended.revision, JobState::Paused)).await, None, "it has ended");
    assert_eq!(release(&archive, slice(1, 100, RING)).await, Some((3, true)));
    assert_eq!(archive.broadcast(APP, id(1)).await.unwrap().unwrap().place.bseq, Bseq(1));
    let unknown = write(&archive, JobWrite::Release(Box::new(slice(9, 0, 1)))).await;
    assert!(matches!(unknown, JobWritten::Unknown));
}

pub(crate) async fn changes_need_the_revision<A: Archive>(archive: A) {
    for n in 1..=3 {
        put(&archive, job(n)).await;
    }
    let faster = ChangeJobRequest {
        users_per_second: Some(7),
        users_per_second_asked: Some(8),
        why: Some("slow".to_owned()),
        ..change(2, 1, JobState::Unspecified)
    };
    let changed = alter(&archive, faster.clone()).await.unwrap();
    assert_eq!((changed.revision, changed.state()), (2, JobState::Running));
    assert_eq!((changed.users_per_second, changed.users_per_second_asked, &*changed.why), (7, 8, "slow"));
    assert_eq!(alter(&archive, faster).await, None, "made for another revision");
    assert_eq!(alter(&archive, change(2, 2, JobState::Paused)).await.unwrap().why, "slow");
    assert_eq!(release(&archive, slice(2, 0, 9)).await, None, "it is paused");
    assert!(alter(&archive, change(2, 3, JobState::Running)).await.is_some());
    assert_eq!(release(&archive, slice(2, 0, 9)).await, Some((1, false)));
    let cancelled = alter(&archive, change(2, 4, JobState::Cancelled)).await.unwrap();
    assert_eq!((cancelled.ended_ms, cancelled.released), (NOW + 7, 9));
    assert_eq!(release(&archive, slice(2, 9, 10)).await, None);
    assert_eq!(alter(&archive, change(2, 5, JobState::Running)).await, None, "it has ended");
    assert_eq!(
        bseqs(&archive.broadcasts(APP, Bseq(0), 9, 99, NOW).await.unwrap()),
        [1],
        "it stays in the log"
    );

    let ids = |jobs: Vec<Job>| jobs.iter().map(|job| job.id - id(0).0).collect::<Vec<_>>();
    let of = |before, max| archive.jobs(APP, before, max);
    assert_eq!(ids(of(MessageId(i64::MAX as u64), 2).await.unwrap()), [3, 2]);
    assert_eq!(ids(of(id(2), 9).await.unwrap()), [1]);
    assert_eq!(archive.jobs(AppId(2), id(9), 9).await.unwrap(), []);
    assert_eq!(ids(archive.active_jobs().await.unwrap()), [1, 3]);
}

pub(crate) async fn a_recall_stops_a_job<A: Archive>(archive: A) {
    for n in 1..=4 {
        put(&archive, job(n)).await;
    }
    for (from, to) in [(0, 10), (10, 20)] {
        release(&archive, slice(1, from, to)).await.unwrap();
    }
    release(&archive, slice(2, 0, RING)).await.unwrap();
    release(&archive, slice(4, 0, 10)).await.unwrap();
    for n in 1..=3 {
        assert_eq!(archive.commit(&recall(n)).await.unwrap().broadcast_recalls, [true], "{n}");
        assert_eq!(archive.commit(&recall(n)).await.unwrap().broadcast_recalls, [false], "{n}");
        let job = archive.job(APP, id(n)).await.unwrap().unwrap();
        assert_eq!((job.state(), job.ended_ms, job.revision), (JobState::Recalled, NOW, 2));
    }
    assert_eq!(release(&archive, slice(1, 20, 30)).await, None);
    assert!(archive.broadcast(APP, id(1)).await.unwrap().unwrap().recalled);
    // By a change of its state it is the same.
    assert!(alter(&archive, change(4, 1, JobState::Recalled)).await.is_some());
    assert!(bseqs(&archive.broadcasts(APP, Bseq(0), 9, 99, NOW).await.unwrap()).is_empty());
    // What is over cannot be taken back.
    put(&archive, job(5)).await;
    release(&archive, ReleaseJobRequest { expires_ms: NOW, ..slice(5, 0, RING) }).await.unwrap();
    assert_eq!(archive.commit(&recall(5)).await.unwrap().broadcast_recalls, [false]);
    assert_eq!(archive.job(APP, id(5)).await.unwrap().unwrap().state(), JobState::Released);
}

pub(crate) async fn forgets_jobs_that_ended<A: Archive>(archive: A) {
    for n in 1..=4 {
        put(&archive, job(n)).await;
    }
    // Over, its last entry is not over, not ended, ended without an entry.
    let over = |n, from, to| ReleaseJobRequest { expires_ms: NOW + 1, ..slice(n, from, to) };
    release(&archive, over(1, 0, RING)).await.unwrap();
    release(&archive, over(2, 0, 5)).await.unwrap();
    release(&archive, slice(2, 5, RING)).await.unwrap();
    release(&archive, over(3, 0, 5)).await.unwrap();
    alter(&archive, change(4, 1, JobState::Cancelled)).await.unwrap();
    let forget = || Group {
        forget: Forget { broadcasts_before_ms: Some(NOW + 100), ..Forget::default() },
        ..Group::default()
    };
    let mut gone = 0;
    for _ in 0..3 {
        gone += archive.commit(&forget()).await.unwrap().forgotten;
    }
    assert_eq!(gone, 5, "three entries and two jobs");
    let all = [id(1), id(2), id(3), id(4)];
    let known: Vec<_> =
        archive.broadcast_counts(APP, &all).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(known, [false, true, true, false]);
    let jobs: Vec<_> =
        archive.jobs(APP, id(9), 9).await.unwrap().iter().map(|job| MessageId(job.id)).collect();
    assert_eq!(jobs, [id(3), id(2)]);
    // Whoever goes on still has its payload.
    assert_eq!(release(&archive, slice(3, 5, RING)).await, Some((5, false)));
    let page = archive.broadcasts(APP, Bseq(0), 9, 99, NOW).await.unwrap();
    assert_eq!((bseqs(&page), page.through), (vec![3, 5], Bseq(5)));
    assert_eq!(page.broadcasts[1].payload, job(3).payload);
}

pub(crate) async fn jobs_are_bounded<A: Archive>(archive: A) {
    let most = u64::from(MOST_JOBS);
    let jobs = (1..=most).map(|n| JobWrite::Put(Box::new(job(n)))).collect();
    let done = archive.commit(&Group { jobs, now_ms: NOW, ..Group::default() }).await.unwrap();
    assert!(done.jobs.iter().all(|written| matches!(written, JobWritten::Kept(_))));
    assert!(matches!(put(&archive, job(most + 1)).await, JobWritten::TooMany));
    assert!(matches!(put(&archive, Job { app: 2, ..job(most + 1) }).await, JobWritten::Kept(_)));
    alter(&archive, change(5, 1, JobState::Cancelled)).await.unwrap();
    assert!(matches!(put(&archive, job(most + 2)).await, JobWritten::Kept(_)));
}

/// Several centers hold themselves for the runner of a job: each user is in one slice all the same.
pub(crate) async fn many_may_release_at_once<A: Archive>(archive: A) {
    put(&archive, job(1)).await;
    let runner = async |step: u64| {
        let mut at = 0;
        while at < 600 {
            let to = at + step;
            let mine = write(&archive, JobWrite::Release(Box::new(slice(1, at, to)))).await;
            at = match mine {
                JobWritten::Released { job, .. } | JobWritten::Stale(job) => job.released,
                other => panic!("{other:?}"),
            };
        }
    };
    futures::join!(runner(7), runner(5), runner(11));
    let page = archive.broadcasts(APP, Bseq(0), 999, 99, NOW).await.unwrap();
    let mut at = 0;
    for (n, entry) in (1..).zip(&page.broadcasts) {
        let filter = entry.filter.clone().unwrap();
        assert_eq!((entry.place.bseq.0, filter.hash_from), (n, at));
        at = filter.hash_below;
    }
    assert!(at >= 600);
}
