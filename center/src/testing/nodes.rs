//! A register, a room and a coordinator that know who is online, and what they were asked.

use proto::internal::{
    self as rpc, coordinator_server::Coordinator, register_server::Register, room_server::Room,
};
use tonic::{Request, Response, Status};

use super::{Answer, Fakes};

#[tonic::async_trait]
impl Register for Fakes {
    async fn look_up(&self, request: Request<rpc::LookUpRequest>) -> Answer<rpc::LookUpResponse> {
        let state = self.state();
        let results = request.into_inner().items.into_iter().map(|item| {
            if !state.online.contains(&item.uid) {
                return rpc::LookUpResult::default();
            }
            let presence = rpc::Presence::Online.into();
            rpc::LookUpResult { presence, room: 1, conn: u64::MAX, fence: 7, since_ms: 1 }
        });
        Ok(Response::new(rpc::LookUpResponse { results: results.collect() }))
    }

    async fn bind(&self, _: Request<rpc::BindRequest>) -> Answer<rpc::BindResponse> {
        Err(Status::unimplemented("a center never binds"))
    }

    async fn restore(&self, _: Request<rpc::RestoreRequest>) -> Answer<rpc::RestoreResponse> {
        Err(Status::unimplemented("a center has no sessions to restore"))
    }

    async fn settle(&self, _: Request<rpc::SettleRequest>) -> Answer<rpc::SettleResponse> {
        Err(Status::unimplemented("a center has no sessions to settle"))
    }

    async fn unbind(&self, _: Request<rpc::UnbindRequest>) -> Answer<rpc::UnbindResponse> {
        Err(Status::unimplemented("a center never unbinds"))
    }
}

#[tonic::async_trait]
impl Room for Fakes {
    async fn count_audience(
        &self,
        request: Request<rpc::CountAudienceRequest>,
    ) -> Answer<rpc::CountAudienceResponse> {
        let mut state = self.state();
        state.counted.push(request.into_inner());
        Ok(Response::new(rpc::CountAudienceResponse { bindings: state.audience }))
    }

    async fn deliver(&self, request: Request<rpc::DeliverRequest>) -> Answer<rpc::DeliverResponse> {
        let rpc::DeliverRequest { payloads, items } = request.into_inner();
        let results = vec![rpc::Delivery::Sent.into(); items.len()];
        let mut state = self.state();
        for item in items {
            let payload = item.payload.map(|index| payloads[index as usize].to_vec()).unwrap_or_default();
            state.delivered.push((item, payload));
        }
        Ok(Response::new(rpc::DeliverResponse { results }))
    }

    async fn broadcast(
        &self,
        request: Request<rpc::BroadcastNotice>,
    ) -> Answer<rpc::BroadcastNoticeResponse> {
        self.state().notices.push(request.into_inner());
        Ok(Response::new(rpc::BroadcastNoticeResponse {}))
    }

    async fn recall(&self, request: Request<rpc::RecallNotice>) -> Answer<rpc::RecallNoticeResponse> {
        let notice = request.into_inner();
        let notified = notice.uids.len().max(1) as u64;
        self.state().recalls.push(notice);
        Ok(Response::new(rpc::RecallNoticeResponse { notified }))
    }

    async fn progress(&self, request: Request<rpc::ProgressRequest>) -> Answer<rpc::ProgressResponse> {
        let rpc::ProgressRequest { ids, app, epoch, head } = request.into_inner();
        let mut state = self.state();
        let behind = app > 0 && state.behind;
        state.places.extend((app > 0).then_some((app, epoch, head)));
        let progress = ids
            .into_iter()
            .map(|id| rpc::Progress { id, targets: 5, sent: 4, acked: 3, pending: 2, ..Default::default() })
            .collect();
        Ok(Response::new(rpc::ProgressResponse { progress, behind }))
    }

    async fn kick(&self, _: Request<rpc::KickRequest>) -> Answer<rpc::KickResponse> {
        Err(Status::unimplemented("a center kicks through the coordinator"))
    }

    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Answer<rpc::DrainResponse> {
        Err(Status::unimplemented("a center drains nobody"))
    }
}

#[tonic::async_trait]
impl Coordinator for Fakes {
    async fn kick(&self, request: Request<rpc::KickUsersRequest>) -> Answer<rpc::KickUsersResponse> {
        let state = self.state();
        let users = request.into_inner().users.into_iter();
        let was_online = users.map(|user| state.online.contains(&user.uid)).collect();
        Ok(Response::new(rpc::KickUsersResponse { was_online }))
    }

    async fn up(&self, _: Request<rpc::UpRequest>) -> Answer<rpc::UpResponse> {
        Err(Status::unimplemented("a center sends nothing up"))
    }

    async fn events(&self, _: Request<rpc::EventsRequest>) -> Answer<rpc::EventsResponse> {
        Err(Status::unimplemented("a center tells no events"))
    }
}
