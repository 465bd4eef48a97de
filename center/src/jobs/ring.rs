//! Where a job stands: how much of the ring of users it has been released to and, of a time on the devices' clocks, for which
//! of the offsets from UTC.

use proto::internal::{Filter, Job, JobState};

use crate::when;

/// Places on the ring.
pub(crate) const RING: u64 = 1 << 32;

/// A piece of the ring that is to be released next, as [`Job::released`] counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slice {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The job ends with it.
    pub(crate) last: bool,
    /// That of the log's entry.
    pub(crate) filter: Filter,
    /// Of the log's entry.
    pub(crate) expires_ms: u64,
}

/// Where a canary ends on the ring.
pub(crate) fn bound(job: &Job) -> u64 {
    match job.filter.as_ref().map_or(0, |filter| filter.hash_below) {
        0 => RING,
        below => below.min(RING),
    }
}

/// How many times the ring is gone through.
pub(crate) fn steps(job: &Job) -> u32 {
    if job.local_minutes.is_some() { when::STEPS } else { 1 }
}

/// The step that the job is at.
pub(crate) fn step(job: &Job) -> u32 {
    u32::try_from(job.released / RING).unwrap_or(u32::MAX)
}

/// Its place within the step.
pub(crate) fn place(job: &Job) -> u64 {
    job.released % RING
}

/// When the job may be released on, ms since 1970: its start or, of local time, when clocks of its step's offset show it.
pub(crate) fn due_ms(job: &Job) -> u64 {
    job.local_minutes.map_or(job.starts_ms, |minutes| when::local_due_ms(minutes, when::offset_of(step(job))))
}

/// When what is released at the present step expires, ms since 1970.
pub(crate) fn expires_ms(job: &Job) -> u64 {
    due_ms(job).saturating_add(job.ttl_ms)
}

/// When all that the job releases has expired, ms since 1970.
pub(crate) fn last_expires_ms(job: &Job) -> u64 {
    let last = job
        .local_minutes
        .map_or(job.starts_ms, |minutes| when::local_due_ms(minutes, when::offset_of(when::STEPS - 1)));
    last.saturating_add(job.ttl_ms)
}

/// Whom the job is for at its present step; of no local time that is everybody it is for.
pub(crate) fn audience_now(job: &Job) -> Filter {
    let mut filter = job.filter.clone().unwrap_or_default();
    if job.local_minutes.is_some() {
        filter.utc_offset_min = Some(when::offset_of(step(job)));
    }
    filter
}

/// The next slice, `width` places of the ring wide or what is left of the step.
pub(crate) fn next(job: &Job, width: u64) -> Slice {
    let (bound, begin) = (bound(job), place(job));
    let end = begin.saturating_add(width.max(1)).min(bound);
    let mut filter = audience_now(job);
    filter.hash_from = begin;
    filter.hash_below = if end == RING { 0 } else { end };
    let whole = end == bound;
    // A step that is done leads to the next one's begin; so does what a canary leaves out.
    let to = job.released - begin + if whole { RING } else { end };
    let last = whole && step(job) + 1 >= steps(job);
    Slice { from: job.released, to, last, filter, expires_ms: expires_ms(job) }
}

/// Share of the audience that the job has been released to, 0 to 1; of local time each offset counts the same.
pub(crate) fn share(job: &Job) -> f64 {
    if job.state() == JobState::Released {
        return 1.0;
    }
    let within = place(job) as f64 / bound(job) as f64;
    ((f64::from(step(job)) + within) / f64::from(steps(job))).min(1.0)
}

/// Whether nothing is released any more.
pub(crate) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Released | JobState::Cancelled | JobState::Recalled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(hash_below: u64) -> Job {
        let filter = Filter { zones: vec!["a".into()], hash_below, ..Default::default() };
        Job { filter: Some(filter), starts_ms: 1_000, ttl_ms: 60_000, ..Default::default() }
    }

    #[test]
    fn slices_partition_the_ring() {
        for below in [0, 1, 7, RING / 3] {
            let mut job = job(below);
            let (mut places, mut slices) = (0, 0);
            loop {
                let slice = next(&job, RING / 7 + slices);
                let below = if slice.filter.hash_below == 0 { RING } else { slice.filter.hash_below };
                assert_eq!((slice.filter.hash_from, slice.from), (places, job.released));
                assert_eq!((slice.filter.zones.len(), slice.expires_ms), (1, 61_000));
                (places, job.released, slices) = (below, slice.to, slices + 1);
                if slice.last {
                    break;
                }
            }
            assert_eq!((places, job.released), (bound(&job), RING), "{below}");
            assert!(slices <= 7);
        }
    }

    #[test]
    fn local_time_goes_through_the_ring_once_for_each_offset() {
        // 1970-01-03T09:00.
        let mut job = Job { local_minutes: Some(2 * 1440 + 540), ..job(100) };
        let mut offsets = Vec::new();
        loop {
            let slice = next(&job, u64::MAX);
            assert_eq!((slice.filter.hash_from, slice.filter.hash_below), (0, 100));
            let offset = slice.filter.utc_offset_min.unwrap();
            assert_eq!(due_ms(&job), ((2 * 1440 + 540) as i64 - i64::from(offset)) as u64 * 60_000);
            offsets.push(offset);
            if slice.last {
                break;
            }
            job.released = slice.to;
        }
        assert_eq!(offsets, (0..105).map(|step| 840 - 15 * step).collect::<Vec<_>>());
        assert_eq!(last_expires_ms(&job), expires_ms(&job));
        job.released = 52 * RING + 50;
        assert!((share(&job) - 0.5).abs() < 1e-9);
    }
}
