//! A saver whose stores are plain maps.

use std::ops::Bound;

use proto::internal::{self as rpc, saver_server::Saver};
use tonic::{Request, Response, Status};

use super::{Answer, Fakes};

#[tonic::async_trait]
impl Saver for Fakes {
    async fn put_job(&self, request: Request<rpc::PutJobRequest>) -> Answer<rpc::JobResponse> {
        let job = request.into_inner().job.unwrap_or_default();
        Ok(Response::new(self.state().jobs.put(job)))
    }

    async fn find_job(&self, request: Request<rpc::FindJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(self.state().jobs.find(request.into_inner().id)))
    }

    async fn active_jobs(&self, request: Request<rpc::ActiveJobsRequest>) -> Answer<rpc::JobsResponse> {
        let _ = request;
        Ok(Response::new(self.state().jobs.active()))
    }

    async fn list_jobs(&self, request: Request<rpc::ListJobsRequest>) -> Answer<rpc::JobsResponse> {
        Ok(Response::new(self.state().jobs.list(request.into_inner())))
    }

    async fn change_job(&self, request: Request<rpc::ChangeJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(self.state().jobs.change(request.into_inner())))
    }

    async fn release_job(&self, request: Request<rpc::ReleaseJobRequest>) -> Answer<rpc::ReleaseJobResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        let answer = state.jobs.release(request.clone());
        if answer.released && !state.broadcasts.iter().any(|known| known.bseq == answer.bseq) {
            let job = state.jobs.jobs[&request.id].clone();
            state.broadcasts.push(rpc::StoredBroadcast {
                epoch: answer.epoch,
                bseq: answer.bseq,
                id: request.id,
                payload: job.payload,
                audience: job.audience,
                accepted_ms: request.accepted_ms,
                expires_ms: request.expires_ms,
                recalled: false,
                filter: request.filter,
            });
        }
        Ok(Response::new(answer))
    }

    async fn put_parts(&self, request: Request<rpc::PutPartsRequest>) -> Answer<rpc::PutPartsResponse> {
        self.state().jobs.keep(request.into_inner().parts);
        Ok(Response::new(rpc::PutPartsResponse {}))
    }

    async fn targets(&self, request: Request<rpc::TargetsRequest>) -> Answer<rpc::TargetsResponse> {
        let rpc::TargetsRequest { id, after_uid, limit, .. } = request.into_inner();
        let state = self.state();
        let after = state.inboxes.range((Bound::Excluded(after_uid), Bound::Unbounded));
        let has = after.filter(|(_, inbox)| inbox.contains(&id));
        let one = |(uid, _): (&String, _)| rpc::TargetState { uid: uid.clone(), state: "stored".to_owned() };
        let targets: Vec<_> = has.take(limit as usize).map(one).collect();
        let more = targets.len() == limit as usize;
        Ok(Response::new(rpc::TargetsResponse { targets, more }))
    }

    async fn put_scheduled(
        &self,
        request: Request<rpc::PutScheduledRequest>,
    ) -> Answer<rpc::PutScheduledResponse> {
        let push = request.into_inner().push.unwrap_or_default();
        Ok(Response::new(self.state().schedule.put(push)))
    }

    async fn due_scheduled(
        &self,
        request: Request<rpc::DueScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        Ok(Response::new(self.state().schedule.due(request.into_inner())))
    }

    async fn list_scheduled(
        &self,
        request: Request<rpc::ListScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        Ok(Response::new(self.state().schedule.list(request.into_inner())))
    }

    async fn remove_scheduled(
        &self,
        request: Request<rpc::RemoveScheduledRequest>,
    ) -> Answer<rpc::RemoveScheduledResponse> {
        let mut state = self.state();
        if state.schedule.stuck {
            return Err(Status::internal("made up"));
        }
        Ok(Response::new(state.schedule.remove(request.into_inner())))
    }

    async fn utc_offsets(&self, request: Request<rpc::UtcOffsetsRequest>) -> Answer<rpc::UtcOffsetsResponse> {
        Ok(Response::new(self.state().schedule.offsets(&request.into_inner())))
    }

    async fn append(&self, request: Request<rpc::AppendRequest>) -> Answer<rpc::AppendResponse> {
        let takes = self.state().append_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.state();
        let results = request.into_inner().items.into_iter().map(|item| {
            if let Some(refusal) = &state.refuse {
                return rpc::AppendResult { refusal: Some(refusal.clone()), ..Default::default() };
            }
            let mut repeated = false;
            let positions = item.uids.iter().map(|uid| {
                let inbox = state.inboxes.entry(uid.clone()).or_default();
                let at = inbox.iter().position(|id| *id == item.id);
                repeated |= at.is_some();
                let seq = at.unwrap_or_else(|| {
                    inbox.push(item.id);
                    inbox.len() - 1
                });
                rpc::Position { epoch: 1, seq: seq as u64 + 1 }
            });
            let positions = positions.collect();
            state.appended.push(item);
            rpc::AppendResult { positions, refusal: None, repeated }
        });
        let results = results.collect();
        Ok(Response::new(rpc::AppendResponse { results }))
    }

    async fn reserve(&self, request: Request<rpc::ReserveRequest>) -> Answer<rpc::ReserveResponse> {
        let rpc::ReserveRequest { key, id, fingerprint, .. } = request.into_inner();
        let mut state = self.state();
        let repeated = state.reserved.contains_key(&key);
        let (id, known) = state.reserved.entry(key).or_insert((id, fingerprint.to_vec())).clone();
        let mismatch = known != fingerprint;
        Ok(Response::new(rpc::ReserveResponse { id, repeated, mismatch, refusal: None }))
    }

    async fn recall(&self, request: Request<rpc::RecallRequest>) -> Answer<rpc::RecallResponse> {
        let rpc::RecallRequest { id, after_uid, .. } = request.into_inner();
        let (mut state, mut recalled) = (self.state(), Vec::new());
        let mut next = None;
        for (uid, inbox) in state.inboxes.iter_mut().filter(|(uid, _)| **uid > after_uid) {
            // One user in each answer: all of them come.
            if !recalled.is_empty() {
                next = recalled.last().cloned();
                break;
            }
            let before = inbox.len();
            inbox.retain(|stored| *stored != id);
            if inbox.len() != before {
                recalled.push(uid.clone());
            }
        }
        state.recalled.entry(id).or_default().extend(recalled.iter().cloned());
        let delivered = if next.is_none() { vec!["reader".to_owned()] } else { Vec::new() };
        Ok(Response::new(rpc::RecallResponse { recalled, delivered, next_uid: next }))
    }

    async fn ledger(&self, request: Request<rpc::LedgerRequest>) -> Answer<rpc::LedgerResponse> {
        let id = request.into_inner().id;
        let state = self.state();
        if let Some(broadcast) = state.broadcasts.iter().find(|b| b.id == id) {
            let broadcast = Some(broadcast.clone());
            return Ok(Response::new(rpc::LedgerResponse { found: true, broadcast, ..Default::default() }));
        }
        let Some(append) = state.appended.iter().find(|append| append.id == id) else {
            return Ok(Response::new(rpc::LedgerResponse::default()));
        };
        let stored = state.inboxes.values().filter(|inbox| inbox.contains(&id)).count() as u64;
        let recalled = state.recalled.get(&id).map_or(0, |uids| uids.len() as u64);
        Ok(Response::new(rpc::LedgerResponse {
            found: true,
            accepted_ms: append.accepted_ms,
            expires_ms: append.expires_ms,
            multicast: append.multicast,
            targets: stored + recalled,
            stored,
            recalled,
            ..Default::default()
        }))
    }

    async fn depth(&self, request: Request<rpc::DepthRequest>) -> Answer<rpc::DepthResponse> {
        let depth = self.state().inboxes.get(&request.into_inner().uid).map_or(0, Vec::len) as u64;
        Ok(Response::new(rpc::DepthResponse { depth }))
    }

    async fn append_broadcast(
        &self,
        request: Request<rpc::AppendBroadcastRequest>,
    ) -> Answer<rpc::AppendBroadcastResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        let known = state.broadcasts.iter().find(|b| b.id == request.id).map(|b| b.bseq);
        let bseq = known.unwrap_or(state.broadcasts.len() as u64 + 1);
        if known.is_none() {
            state.broadcasts.push(rpc::StoredBroadcast {
                epoch: 1,
                bseq,
                id: request.id,
                payload: request.payload,
                audience: request.audience,
                accepted_ms: request.accepted_ms,
                expires_ms: request.expires_ms,
                recalled: false,
                ..Default::default()
            });
        }
        let repeated = known.is_some();
        Ok(Response::new(rpc::AppendBroadcastResponse { epoch: 1, bseq, repeated, refusal: None }))
    }

    async fn recall_broadcast(
        &self,
        request: Request<rpc::RecallBroadcastRequest>,
    ) -> Answer<rpc::RecallBroadcastResponse> {
        let id = request.into_inner().id;
        let mut state = self.state();
        state.jobs.recall(id);
        let found = state.broadcasts.iter_mut().find(|b| b.id == id && !b.recalled);
        let recalled = found.map(|b| b.recalled = true).is_some();
        Ok(Response::new(rpc::RecallBroadcastResponse { recalled }))
    }

    async fn apps(&self, request: Request<rpc::AppsRequest>) -> Answer<rpc::AppsResponse> {
        let after = request.into_inner().after_revision;
        let state = self.state();
        let revision = state.apps.iter().map(|app| app.revision).max().unwrap_or_default();
        let apps = state.apps.iter().filter(|app| app.revision > after).cloned().collect();
        Ok(Response::new(rpc::AppsResponse { apps, revision }))
    }

    async fn put_app(&self, request: Request<rpc::PutAppRequest>) -> Answer<rpc::PutAppResponse> {
        let mut app = request.into_inner().app.unwrap_or_default();
        let mut state = self.state();
        let from = app.revision;
        app.revision = state.apps.iter().map(|app| app.revision).max().unwrap_or_default() + 1;
        if app.id == 0 {
            app.id = state.apps.len() as u32 + 1;
            state.apps.push(app.clone());
        } else if state.apps.iter().any(|known| known.id == app.id && known.revision != from) {
            let refusal = rpc::Refusal { code: peers::APP_CHANGED.to_owned(), ..rpc::Refusal::default() };
            return Ok(Response::new(rpc::PutAppResponse { app: None, refusal: Some(refusal) }));
        } else {
            state.apps.iter_mut().filter(|known| known.id == app.id).for_each(|known| *known = app.clone());
        }
        Ok(Response::new(rpc::PutAppResponse { app: Some(app), refusal: None }))
    }

    async fn put_key(&self, request: Request<rpc::PutKeyRequest>) -> Answer<rpc::PutKeyResponse> {
        let rpc::PutKeyRequest { app, hash, scopes, .. } = request.into_inner();
        self.state().keys.insert(hash.to_vec(), (app, scopes));
        Ok(Response::new(rpc::PutKeyResponse { refusal: None }))
    }

    async fn find_key(&self, request: Request<rpc::FindKeyRequest>) -> Answer<rpc::FindKeyResponse> {
        let found = self.state().keys.get(&request.into_inner().hash[..]).cloned();
        let (app, scopes) = found.clone().unwrap_or_default();
        Ok(Response::new(rpc::FindKeyResponse { found: found.is_some(), app, scopes }))
    }

    async fn load(&self, _: Request<rpc::LoadRequest>) -> Answer<rpc::LoadResponse> {
        Err(Status::unimplemented("a center never loads"))
    }

    async fn ack(&self, _: Request<rpc::AckRequest>) -> Answer<rpc::AckResponse> {
        Err(Status::unimplemented("a center never acks"))
    }

    async fn load_broadcasts(
        &self,
        _: Request<rpc::LoadBroadcastsRequest>,
    ) -> Answer<rpc::LoadBroadcastsResponse> {
        Err(Status::unimplemented("a center never loads"))
    }

    async fn broadcast_heads(
        &self,
        request: Request<rpc::BroadcastHeadsRequest>,
    ) -> Answer<rpc::BroadcastHeadsResponse> {
        let head = self.state().broadcasts.iter().map(|one| one.bseq).max().unwrap_or_default();
        let apps = request.into_inner().apps.into_iter();
        let heads = apps.map(|app| rpc::BroadcastHead { app, epoch: 1, head }).collect();
        Ok(Response::new(rpc::BroadcastHeadsResponse { heads }))
    }
}
