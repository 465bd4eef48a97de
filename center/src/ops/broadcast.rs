//! To all users of an app, or to those that an audience names: at once, paced, or at a time.

use cluster::accepted_ms_of;
use proto::{
    internal::{App, BroadcastNotice, Job, JobState, ReleaseJobRequest},
    v1,
};

use super::{
    Caller, Ops,
    asked::Asked,
    idempotency::{Fingerprint, Reserved},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
    jobs::{ring, word},
    when::Due,
};

impl Ops {
    /// Takes a broadcast. One that is not paced and is for now is in the app's log when this answers, and the rooms are being
    /// told; any other is a job in the archive, which the centers release.
    pub async fn broadcast(
        &self,
        caller: &Caller,
        request: v1::BroadcastRequest,
    ) -> Result<v1::BroadcastResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        self.check_payload(&request.payload)?;
        let asked = self.asked(&app, &request)?;
        self.take_rate(&app, 1)?;
        // Once is enough to be refused; what was accepted before may have been many.
        if !asked.is_plain() && self.jobs.known.active() >= self.config().broadcasts.jobs_max {
            return Err(Error::Full("broadcasts under way"));
        }
        let Reserved { id, repeated } = if request.idempotency_key.is_empty() {
            Reserved { id: self.ids.next(), repeated: false }
        } else {
            let fingerprint = fingerprint(&asked, &request);
            self.reserve(&app, request.idempotency_key.clone(), fingerprint).await?
        };
        // By the id's own time, so that a repeat makes the same of "09:00".
        let due = Due::parse_in(
            "start",
            request.start.as_ref(),
            accepted_ms_of(id),
            self.config().schedule_ahead_max,
        )?;
        let job = asked.into_job(&app, id, due, request.payload);
        let plain =
            job.state() == JobState::Running && job.users_per_second == 0 && job.local_minutes.is_none();
        let answer = self.peers.savers.put_job(job.clone()).await?;
        let kept = answer.job.unwrap_or_else(|| job.clone());
        self.metrics.broadcast.inc();
        let mut response =
            v1::BroadcastResponse { id, repeated, state: word(kept.state()).to_owned(), bseq: 0 };
        if plain {
            let (state, bseq) = self.release_at_once(&app, job, kept).await?;
            response.state = word(state).to_owned();
            response.bseq = bseq;
        } else {
            self.jobs.known.note(id, !answer.stale);
        }
        Ok(response)
    }

    /// Releases a broadcast that is one slice, and has the rooms told. A repeat does so again: whoever did it first may have died
    /// in between, and rooms know what they have.
    async fn release_at_once(&self, app: &App, job: Job, kept: Job) -> Result<(JobState, u64)> {
        if !matches!(kept.state(), JobState::Running | JobState::Released) {
            // Recalled, perhaps, before its maker asked again.
            return Ok((kept.state(), 0));
        }
        let slice = ring::next(&job, ring::RING);
        let request = ReleaseJobRequest {
            app: app.id,
            id: job.id,
            from: slice.from,
            to: slice.to,
            filter: Some(slice.filter.clone()),
            accepted_ms: job.accepted_ms,
            expires_ms: slice.expires_ms,
            last: slice.last,
        };
        let answer = self.peers.savers.release_job(request).await?;
        if !answer.released {
            // It was changed meanwhile: somebody paused it before it was out, or took it back.
            return Ok((answer.job.map_or(JobState::Unspecified, |job| job.state()), 0));
        }
        self.jobs.notices.offer(BroadcastNotice {
            app: app.id,
            epoch: answer.epoch,
            bseq: answer.bseq,
            id: job.id,
            payload: job.payload,
            audience: job.audience,
            accepted_ms: job.accepted_ms,
            expires_ms: slice.expires_ms,
            filter: Some(slice.filter),
        });
        Ok((JobState::Released, answer.bseq))
    }
}

/// What is asked for; of a plain broadcast as it was when there were no others, so that a repeat across an upgrade is known.
fn fingerprint(asked: &Asked, request: &v1::BroadcastRequest) -> Fingerprint {
    let plain = Fingerprint::of("broadcast")
        .and(asked.audience.as_bytes())
        .and(&request.payload)
        .and_ttl(request.ttl_s);
    let rest = v1::BroadcastRequest {
        app: String::new(),
        payload: bytes::Bytes::new(),
        audience: String::new(),
        ttl_s: None,
        idempotency_key: String::new(),
        ..request.clone()
    };
    match rest == v1::BroadcastRequest::default() {
        true => plain,
        false => plain.and(&prost::Message::encode_to_vec(&rest)),
    }
}
