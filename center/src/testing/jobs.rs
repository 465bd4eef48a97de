//! The part of a saver that keeps broadcast jobs, as a plain map.

use std::collections::BTreeMap;

use proto::internal as rpc;

/// Jobs with their counts, and the slices that were released.
#[derive(Default)]
pub(crate) struct FakeJobs {
    pub(crate) jobs: BTreeMap<u64, rpc::Job>,
    pub(crate) counts: BTreeMap<u64, rpc::JobCounts>,
    /// Each slice of every job, in the order of the log.
    pub(crate) released: Vec<rpc::ReleaseJobRequest>,
    /// Greatest counts of (job, room, life).
    pub(crate) parts: BTreeMap<(u64, u32, u64), u64>,
    /// Calls, by name.
    pub(crate) calls: BTreeMap<&'static str, usize>,
}

impl FakeJobs {
    pub(crate) fn put(&mut self, job: rpc::Job) -> rpc::JobResponse {
        *self.calls.entry("put_job").or_default() += 1;
        let stale = self.jobs.contains_key(&job.id);
        let kept = self.jobs.entry(job.id).or_insert(rpc::Job { revision: 1, ..job }).clone();
        rpc::JobResponse { job: Some(plain(kept)), stale, ..Default::default() }
    }

    pub(crate) fn find(&mut self, id: u64) -> rpc::JobResponse {
        let job = self.jobs.get(&id).cloned();
        rpc::JobResponse { job, counts: Some(self.count(id)), ..Default::default() }
    }

    pub(crate) fn active(&mut self) -> rpc::JobsResponse {
        let jobs = self.jobs.values().filter(|job| !ended(job.state())).cloned().map(plain).collect();
        rpc::JobsResponse { jobs, counts: Vec::new() }
    }

    pub(crate) fn list(&mut self, request: rpc::ListJobsRequest) -> rpc::JobsResponse {
        *self.calls.entry("list_jobs").or_default() += 1;
        let before = if request.before_id == 0 { u64::MAX } else { request.before_id };
        let older = self.jobs.range(..before).rev().map(|(_, job)| job);
        let jobs: Vec<_> = older
            .filter(|job| job.app == request.app)
            .take(request.limit as usize)
            .cloned()
            .map(plain)
            .collect();
        let counts = jobs.iter().map(|job| self.count(job.id)).collect();
        rpc::JobsResponse { jobs, counts }
    }

    pub(crate) fn change(&mut self, change: rpc::ChangeJobRequest) -> rpc::JobResponse {
        *self.calls.entry("change_job").or_default() += 1;
        let Some(job) = self.jobs.get_mut(&change.id) else { return rpc::JobResponse::default() };
        let stale = job.revision != change.revision;
        if !stale {
            let state = change.state();
            job.revision += 1;
            if state != rpc::JobState::Unspecified {
                job.set_state(state);
            }
            if ended(job.state()) && job.ended_ms == 0 {
                job.ended_ms = change.now_ms;
            }
            job.users_per_second = change.users_per_second.unwrap_or(job.users_per_second);
            job.users_per_second_asked = change.users_per_second_asked.unwrap_or(job.users_per_second_asked);
            if let Some(why) = change.why {
                job.why = why;
            }
        }
        rpc::JobResponse { job: Some(plain(job.clone())), stale, ..Default::default() }
    }

    /// The slice's number in the log, if it is released.
    pub(crate) fn release(&mut self, slice: rpc::ReleaseJobRequest) -> rpc::ReleaseJobResponse {
        *self.calls.entry("release_job").or_default() += 1;
        let same =
            |one: &rpc::ReleaseJobRequest| (one.id, one.from, one.to) == (slice.id, slice.from, slice.to);
        if let Some(at) = self.released.iter().position(same) {
            return released(at, self.jobs[&slice.id].clone());
        }
        let Some(job) = self.jobs.get_mut(&slice.id) else { return rpc::ReleaseJobResponse::default() };
        if job.state() != rpc::JobState::Running || job.released != slice.from {
            return rpc::ReleaseJobResponse { job: Some(plain(job.clone())), ..Default::default() };
        }
        job.released = slice.to;
        if slice.last {
            job.set_state(rpc::JobState::Released);
            job.ended_ms = slice.accepted_ms.max(1);
        }
        let job = job.clone();
        self.released.push(slice);
        released(self.released.len() - 1, job)
    }

    /// Whether there was such a job that had not been taken back.
    pub(crate) fn recall(&mut self, id: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let before = job.state();
        job.set_state(rpc::JobState::Recalled);
        job.revision += 1;
        before != rpc::JobState::Recalled && self.released.iter().any(|slice| slice.id == id)
    }

    pub(crate) fn keep(&mut self, parts: Vec<rpc::Part>) {
        for part in parts {
            let sent = self.parts.entry((part.id, part.room, part.incarnation)).or_default();
            *sent = part.sent.max(*sent);
        }
    }

    fn count(&self, id: u64) -> rpc::JobCounts {
        let sent = self.parts.iter().filter(|((of, ..), _)| *of == id).map(|(_, sent)| sent).sum();
        rpc::JobCounts { sent, ..self.counts.get(&id).cloned().unwrap_or_default() }
    }
}

fn released(at: usize, job: rpc::Job) -> rpc::ReleaseJobResponse {
    rpc::ReleaseJobResponse {
        released: true,
        epoch: 1,
        bseq: at as u64 + 1,
        job: Some(plain(job)),
        refusal: None,
    }
}

fn plain(job: rpc::Job) -> rpc::Job {
    rpc::Job { payload: Default::default(), ..job }
}

fn ended(state: rpc::JobState) -> bool {
    use rpc::JobState::{Cancelled, Recalled, Released};
    matches!(state, Cancelled | Recalled | Released)
}
