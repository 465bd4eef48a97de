//! What has become of a broadcast: the archive's counts and the rooms' together.
//!
//! A room counts what became of a broadcast for those who are connected to it, until the archive has counted it; then the user
//! leaves the room's count. The two cannot be read in one step. They are read in the order archive, rooms, archive: if both
//! readings of the archive agree, nobody has moved in between, and the sum is that of one moment. If not it is read again, a few
//! times. Of a broadcast that never stands still the archive's later counts are told, and of the rooms' as many less as the
//! archive has counted between its readings; so a user is never told twice, and one that moved just then may be missing for a
//! moment.
//!
//! The archive says that a broadcast has ended before the rooms have heard of its last slice. Then it is told as running until every
//! room has found out whom the slice is for: whoever waits for the end reads the counts of that moment.

use cluster::NodeId;
use proto::{
    internal::{App, Job, JobCounts, JobState, ListJobsRequest, Progress, StoredBroadcast},
    v1,
};

use super::{
    feedback::percentile,
    parts::{Parts, Place},
    reach::Reach,
    ring,
};
use crate::error::Result;

/// Readings until the archive stands still.
const READINGS: u32 = 3;

/// So long after its end rooms are asked whether they have all of it: a room that was not told finds it within ten seconds.
const FOUND_MS: u64 = 15_000;

/// A broadcast that somebody wants to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) app: u32,
    pub(crate) id: u64,
}

/// A broadcast as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) job: Job,
    /// The archive's and the rooms', together.
    pub(crate) counts: JobCounts,
    /// Users who are connected, whom it is for, and who have not acked.
    pub(crate) stored: u64,
    /// Milliseconds from sending to ack, counts of the buckets up to 1, 2, 4 …
    latency: Vec<u64>,
    pub(crate) missed: Vec<NodeId>,
    /// All of it is in the log, and a room has not found out yet whom there the last of it is for.
    pub(crate) arriving: bool,
}

impl Snapshot {
    /// Reads one; none if there is no such job.
    pub(crate) async fn read(reach: &Reach, parts: &Parts, wanted: Wanted) -> Result<Option<Snapshot>> {
        let Some((mut job, mut before)) = find(reach, wanted).await? else { return Ok(None) };
        let mut readings = 1;
        loop {
            // All slices are before the head of a log that is read after the end.
            let head = match is_arriving(&job, reach.now_ms()) {
                true => Some(head(reach, wanted.app).await?),
                false => None,
            };
            let told = parts.progress(wanted.id, head).await;
            let Some((now, after)) = find(reach, wanted).await? else { return Ok(None) };
            job = now;
            if settled(&before) == settled(&after) || readings == READINGS {
                let arriving =
                    is_arriving(&job, reach.now_ms()) && (head.is_none() || !told.behind.is_empty());
                let snapshot = Snapshot::of(job, &before, after, told.sum(0), told.missed);
                return Ok(Some(Snapshot { arriving, ..snapshot }));
            }
            (before, readings) = (after, readings + 1);
        }
    }

    /// Two readings of the archive and, from between them, what rooms say.
    pub(crate) fn of(
        job: Job,
        before: &JobCounts,
        after: JobCounts,
        rooms: Progress,
        missed: Vec<NodeId>,
    ) -> Snapshot {
        let lost = |counts: &JobCounts| counts.dropped.values().sum::<u64>();
        let there = |now: u64, earlier: u64, later: u64| now.saturating_sub(later.saturating_sub(earlier));
        // More than a room had as such were waiting there yet when it was asked.
        let waited = |now: u64, earlier: u64, later: u64| later.saturating_sub(earlier).saturating_sub(now);
        let moved = waited(0, lost(before), lost(&after))
            + waited(rooms.acked, before.acked, after.acked)
            + waited(rooms.expired, before.expired, after.expired)
            + waited(rooms.recalled, before.recalled, after.recalled);
        let stored = rooms.pending.saturating_sub(moved);
        let counts = JobCounts {
            acked: after.acked + there(rooms.acked, before.acked, after.acked),
            expired: after.expired + there(rooms.expired, before.expired, after.expired),
            recalled: after.recalled + there(rooms.recalled, before.recalled, after.recalled),
            sent: after.sent.max(rooms.sent),
            dropped: after.dropped,
        };
        Snapshot { job, counts, stored, latency: rooms.latency, missed, arriving: false }
    }

    /// A broadcast of before there were jobs.
    pub(crate) async fn of_log(parts: &Parts, of: StoredBroadcast, counts: JobCounts) -> Snapshot {
        let told = parts.progress(of.id, None).await;
        let state = if of.recalled { JobState::Recalled } else { JobState::Released };
        let job = Job {
            id: of.id,
            audience: of.audience,
            filter: of.filter,
            state: state.into(),
            accepted_ms: of.accepted_ms,
            starts_ms: of.accepted_ms,
            ttl_ms: of.expires_ms.saturating_sub(of.accepted_ms),
            ended_ms: of.accepted_ms,
            released: ring::RING,
            ..Job::default()
        };
        Snapshot::of(job, &counts.clone(), counts, told.sum(0), told.missed)
    }

    /// All users who have had to do with it so far.
    pub(crate) fn targets(&self) -> u64 {
        settled(&self.counts) + self.stored
    }

    /// As callers are told it.
    pub(crate) fn to_state(&self, app: &App, bseq: u64) -> v1::BroadcastState {
        let (latency, p) = (&self.latency, |ms: f64| ms.ceil() as u32);
        let state = state_of(app, &self.job);
        let (state, ended_ms) = match self.arriving {
            true => (word(JobState::Running).to_owned(), 0),
            false => (state.state, state.ended_ms),
        };
        v1::BroadcastState {
            state,
            ended_ms,
            bseq,
            targets: self.targets(),
            sent: self.counts.sent,
            acked: self.counts.acked,
            rooms_missed: u32::try_from(self.missed.len()).unwrap_or(u32::MAX),
            stored: self.stored,
            expired: self.counts.expired,
            dropped: self.counts.dropped.clone(),
            recalled_users: self.counts.recalled,
            latency_p50_ms: percentile(latency, 0.5).map_or(0, p),
            latency_p95_ms: percentile(latency, 0.95).map_or(0, p),
            ..state_of(app, &self.job)
        }
    }
}

/// What a job alone says.
pub(crate) fn state_of(app: &App, job: &Job) -> v1::BroadcastState {
    v1::BroadcastState {
        id: job.id,
        app: app.key.clone(),
        audience: job.audience.clone(),
        accepted_ms: job.accepted_ms,
        expires_ms: ring::last_expires_ms(job),
        recalled: job.state() == JobState::Recalled,
        state: word(job.state()).to_owned(),
        why: job.why.clone(),
        users_per_second: job.users_per_second,
        users_per_second_asked: job.users_per_second_asked,
        starts_ms: job.starts_ms,
        ended_ms: job.ended_ms,
        released: ring::share(job),
        ..Default::default()
    }
}

/// Whether all of it has been released just now.
pub(crate) fn is_arriving(job: &Job, now_ms: u64) -> bool {
    job.state() == JobState::Released && now_ms < job.ended_ms.saturating_add(FOUND_MS)
}

/// Where an app's log ends now.
pub(crate) async fn head(reach: &Reach, app: u32) -> Result<Place> {
    let heads = reach.savers.broadcast_heads(&[app]).await?;
    let head = heads.first().copied().unwrap_or_default();
    Ok(Place { app, epoch: head.epoch, head: head.head })
}

/// The word for a state.
pub(crate) fn word(state: JobState) -> &'static str {
    match state {
        JobState::Scheduled => "scheduled",
        JobState::Running | JobState::Unspecified => "running",
        JobState::Paused => "paused",
        JobState::Released => "done",
        JobState::Cancelled => "cancelled",
        JobState::Recalled => "recalled",
    }
}

/// Users of whom the archive knows what became of it.
fn settled(counts: &JobCounts) -> u64 {
    counts.acked + counts.expired + counts.recalled + counts.dropped.values().sum::<u64>()
}

/// A job without its payload, and its counts.
pub(crate) async fn find(reach: &Reach, wanted: Wanted) -> Result<Option<(Job, JobCounts)>> {
    // The newest of those up to this one: unlike looking for it, that leaves the payload where it is.
    let before_id = wanted.id.saturating_add(1);
    let request = ListJobsRequest { app: wanted.app, before_id, limit: 1 };
    let answer = reach.savers.list_jobs(request).await?;
    let found = answer
        .jobs
        .into_iter()
        .zip(answer.counts.into_iter().map(Some).chain(std::iter::repeat(None)))
        .next();
    Ok(found.filter(|(job, _)| job.id == wanted.id).map(|(job, counts)| (job, counts.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger of a broadcast whose acks were just being counted told some of them twice.
    #[test]
    fn nobody_is_told_twice_while_the_archive_counts() {
        let counts = |acked| JobCounts { acked, expired: 1, ..Default::default() };
        let rooms = Progress { acked: 30, pending: 5, expired: 2, sent: 60, ..Default::default() };
        let still = Snapshot::of(Job::default(), &counts(70), counts(70), rooms.clone(), Vec::new());
        assert_eq!(
            (still.counts.acked, still.stored, still.counts.expired, still.targets()),
            (100, 5, 3, 108)
        );
        let moving = Snapshot::of(Job::default(), &counts(70), counts(90), rooms, Vec::new());
        assert_eq!((moving.counts.acked, moving.targets()), (100, 108));
        // Those who had not acked yet when their room was asked, and were counted right after, were told as acked and as stored.
        let late = Progress { acked: 10, pending: 25, ..Default::default() };
        let moving = Snapshot::of(Job::default(), &counts(70), counts(90), late, Vec::new());
        assert_eq!((moving.counts.acked, moving.stored, moving.targets()), (90, 15, 106));
    }

    #[test]
    fn states_have_words() {
        assert_eq!(word(JobState::Released), "done");
        let job = Job { state: JobState::Paused.into(), why: "slow".into(), ..Default::default() };
        let state = state_of(&App::default(), &job);
        assert_eq!((state.state.as_str(), state.why.as_str(), state.recalled), ("paused", "slow", false));
    }
}
