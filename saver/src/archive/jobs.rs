//! Broadcast jobs: what an archive does with them, apart from storing them.

use proto::internal::{ChangeJobRequest, Job, JobState, Part, ReleaseJobRequest};

use super::LoggedBroadcast;

/// Jobs of one app that have not ended. Each is looked at twice a second by every center.
pub const MOST_JOBS: u32 = 1_000;
/// Jobs that one answer names; the oldest come first.
pub(super) const MOST_ACTIVE: i64 = 10_000;

/// Something to write about jobs.
#[derive(Clone, Debug)]
pub enum JobWrite {
    /// A new one, with its payload.
    Put(Box<Job>),
    /// A change, if the job has its revision still.
    Change(Box<ChangeJobRequest>),
    /// A slice to append to the log, if the job runs and stands where it begins.
    Release(Box<ReleaseJobRequest>),
    /// What rooms have sent.
    Parts(Vec<Part>),
}

/// What became of it. Jobs are without their payloads.
#[derive(Clone, Debug)]
pub enum JobWritten {
    /// Done: this is the job now.
    Kept(Box<Job>),
    /// Nothing was changed: this is the job as it is.
    Stale(Box<Job>),
    /// The slice is in the log.
    Released {
        /// The job now.
        job: Box<Job>,
        /// The slice.
        entry: Box<LoggedBroadcast>,
        /// It was there before.
        repeated: bool,
    },
    /// There is no such job.
    Unknown,
    /// The id belongs to another broadcast.
    IdTaken,
    /// The app has [`MOST_JOBS`].
    TooMany,
    /// What rooms have sent is kept.
    Noted,
}

/// The job as it is stored: without its payload, which is kept once for job and log.
pub(super) fn body(job: &Job) -> Job {
    Job { payload: bytes::Bytes::new(), revision: job.revision.max(1), ..job.clone() }
}

/// Makes a change, if it was made for the job as it is. A job that has ended can only be recalled.
pub(super) fn change(job: &mut Job, change: &ChangeJobRequest) -> bool {
    let recalls = change.state() == JobState::Recalled && job.state() != JobState::Recalled;
    if job.revision != change.revision || job.ended_ms > 0 && !recalls {
        return false;
    }
    match change.state() {
        JobState::Unspecified => {}
        state => set_state(job, state, change.now_ms),
    }
    job.users_per_second = change.users_per_second.unwrap_or(job.users_per_second);
    job.users_per_second_asked = change.users_per_second_asked.unwrap_or(job.users_per_second_asked);
    if let Some(why) = &change.why {
        job.why.clone_from(why);
    }
    job.revision += 1;
    true
}

/// Stops a job for good because its broadcast is taken back. `left` says that some of what it released still was in
/// the log. Answers whether that changes the job.
pub(super) fn recall(job: &mut Job, left: bool, now_ms: u64) -> bool {
    if job.state() == JobState::Recalled || job.ended_ms > 0 && !left {
        return false;
    }
    set_state(job, JobState::Recalled, now_ms);
    job.revision += 1;
    true
}

/// Moves a job to the end of a slice, if it stands at its beginning and runs.
pub(super) fn release(job: &mut Job, slice: &ReleaseJobRequest) -> bool {
    if job.state() != JobState::Running || job.released != slice.from {
        return false;
    }
    job.released = slice.to;
    if slice.last {
        set_state(job, JobState::Released, slice.accepted_ms);
    }
    true
}

fn set_state(job: &mut Job, state: JobState, now_ms: u64) {
    job.set_state(state);
    let ends = matches!(state, JobState::Released | JobState::Cancelled | JobState::Recalled);
    if ends && job.ended_ms == 0 {
        job.ended_ms = now_ms.max(1);
    }
}
