//! Broadcast jobs and what is counted of broadcasts, to and from gRPC.

use std::collections::HashSet;

use proto::internal as rpc;
use wire::id::{AppId, Bseq, MessageId};

use super::{GREATEST, translate::message_id};
use crate::{
    archive::{Archive, Counts, Credit, CreditKind, LoggedBroadcast},
    engine::{Engine, Found},
    error::Refused,
    inbox::InboxStore,
};

/// Jobs in one answer unless the caller says otherwise.
const LISTED: usize = 100;

/// What is counted of a broadcast, as callers read it.
pub(super) fn counts(c: Counts) -> rpc::JobCounts {
    let dropped = (c.dropped > 0).then(|| ("behind".to_owned(), c.dropped));
    rpc::JobCounts {
        acked: c.acked,
        expired: c.expired,
        dropped: dropped.into_iter().collect(),
        recalled: c.recalled,
        sent: c.sent,
    }
}

/// What a device's room counts with a cursor; what makes no sense is left out.
pub(super) fn credits(list: &[rpc::Credit]) -> Vec<Credit> {
    let credit = |c: &rpc::Credit| {
        let kind = match c.kind() {
            rpc::CreditKind::Acked => CreditKind::Acked,
            rpc::CreditKind::Expired => CreditKind::Expired,
            rpc::CreditKind::Recalled => CreditKind::Recalled,
            rpc::CreditKind::Dropped => CreditKind::Dropped,
            rpc::CreditKind::Unspecified => return None,
        };
        let id = message_id(c.id).ok()?;
        Some(Credit { bseq: Bseq(c.bseq.min(GREATEST)), id, kind })
    };
    list.iter().filter_map(credit).collect()
}

/// Entries of one message share payload and audience: each comes with the first of them only that has it.
pub(super) fn once(page: &mut [LoggedBroadcast]) {
    let (mut payloads, mut audiences) = (HashSet::new(), HashSet::new());
    for b in page {
        if !b.payload.is_empty() && !payloads.insert(b.id) {
            b.payload = bytes::Bytes::new();
        }
        if !audiences.insert(b.id) {
            b.audience = String::new();
        }
    }
}

fn answer(result: Result<Found, Refused>) -> rpc::JobResponse {
    match result {
        Ok(found) => rpc::JobResponse {
            counts: found.job.is_some().then(|| counts(found.counts)),
            job: found.job,
            stale: found.stale,
            refusal: None,
        },
        Err(e) => rpc::JobResponse { refusal: Some((&e).into()), ..rpc::JobResponse::default() },
    }
}

pub(super) async fn put<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    request: rpc::PutJobRequest,
) -> rpc::JobResponse {
    let mut job = request.job.unwrap_or_default();
    // A slice of the request would keep all of the request in memory.
    job.payload = bytes::Bytes::copy_from_slice(&job.payload);
    answer(match checked(&job) {
        Ok(()) => engine.put_job(job).await,
        Err(e) => Err(e),
    })
}

fn checked(job: &rpc::Job) -> Result<(), Refused> {
    message_id(job.id)?;
    let numbers = [job.accepted_ms, job.starts_ms, job.ttl_ms, job.ended_ms, job.released];
    if rpc::JobState::try_from(job.state).is_ok_and(|s| s != rpc::JobState::Unspecified)
        && numbers.iter().all(|n| *n <= GREATEST)
    {
        return Ok(());
    }
    Err(Refused::bad("bad_job", "a job has a state, and its times are below 2^63"))
}

pub(super) async fn find<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    request: rpc::FindJobRequest,
) -> rpc::JobResponse {
    answer(match message_id(request.id) {
        Ok(id) => engine.find_job(AppId(request.app), id).await,
        // No job has such an id.
        Err(_) => Ok(Found::default()),
    })
}

pub(super) async fn list<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    request: rpc::ListJobsRequest,
) -> Result<rpc::JobsResponse, Refused> {
    let before = if request.before_id == 0 { GREATEST } else { request.before_id.min(GREATEST) };
    let max = if request.limit == 0 { LISTED } else { request.limit as usize };
    let listed = engine.list_jobs(AppId(request.app), MessageId(before), max).await?;
    let (jobs, told) = listed.into_iter().map(|(job, c)| (job, counts(c))).unzip();
    Ok(rpc::JobsResponse { jobs, counts: told })
}

pub(super) async fn change<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    mut request: rpc::ChangeJobRequest,
) -> rpc::JobResponse {
    request.now_ms = request.now_ms.min(GREATEST);
    answer(match (message_id(request.id), rpc::JobState::try_from(request.state)) {
        (Ok(_), Ok(_)) => engine.change_job(request).await,
        (Ok(_), Err(_)) => Err(Refused::bad("bad_job", "a job has no such state")),
        (Err(_), _) => Ok(Found::default()),
    })
}

pub(super) async fn release<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    mut request: rpc::ReleaseJobRequest,
) -> rpc::ReleaseJobResponse {
    request.accepted_ms = request.accepted_ms.min(GREATEST);
    request.expires_ms = request.expires_ms.min(GREATEST);
    let checked =
        message_id(request.id).and_then(|_| match request.from < request.to && request.to <= GREATEST {
            true => Ok(()),
            false => Err(Refused::bad("bad_slice", "a slice ends after its beginning")),
        });
    let result = match checked {
        Ok(()) => engine.release_job(request).await,
        Err(e) => Err(e),
    };
    match result {
        Ok(done) => rpc::ReleaseJobResponse {
            released: done.place.is_some(),
            epoch: done.place.map_or(0, |place| place.epoch.0),
            bseq: done.place.map_or(0, |place| place.bseq.0),
            job: done.job,
            refusal: None,
        },
        Err(e) => {
            rpc::ReleaseJobResponse { refusal: Some((&e).into()), ..rpc::ReleaseJobResponse::default() }
        }
    }
}

pub(super) async fn put_parts<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    request: rpc::PutPartsRequest,
) -> Result<(), Refused> {
    let mut parts = request.parts;
    parts.retain(|part| message_id(part.id).is_ok());
    parts.iter_mut().for_each(|part| part.sent = part.sent.min(GREATEST));
    engine.put_parts(parts).await
}
