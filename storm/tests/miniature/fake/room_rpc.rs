//! The gRPC of the room in miniature.

use proto::internal::{room_server::Room, *};
use tonic::{Request, Response, Result, Status};
use wire::frame::Push;

use super::Shared;

pub(super) struct Rpc(pub(super) Shared);

fn not_here<T>() -> Result<Response<T>> {
    Err(Status::unimplemented("not in miniature"))
}

#[tonic::async_trait]
impl Room for Rpc {
    async fn count_audience(
        &self,
        _: tonic::Request<proto::internal::CountAudienceRequest>,
    ) -> Result<tonic::Response<proto::internal::CountAudienceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("count_audience"))
    }

    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>> {
        let DeliverRequest { payloads, items } = request.into_inner();
        let state = self.0.lock().unwrap();
        let deliver = |item: DeliverItem| {
            assert_eq!((item.app, item.seq), (1, 0));
            let payload = payloads[item.payload.unwrap() as usize].clone();
            let push = Push { binding: 1, id: item.id, payload, ..Push::default() };
            match state.inboxes.get(&item.uid).and_then(|inbox| inbox.to.as_ref()) {
                None => Delivery::NotHere,
                Some(to) => to.try_send(push.into()).map_or(Delivery::Shed, |()| Delivery::Sent),
            }
        };
        let results = items.into_iter().map(|item| deliver(item).into()).collect();
        Ok(Response::new(DeliverResponse { results }))
    }

    async fn broadcast(&self, _: Request<BroadcastNotice>) -> Result<Response<BroadcastNoticeResponse>> {
        not_here()
    }

    async fn recall(&self, _: Request<RecallNotice>) -> Result<Response<RecallNoticeResponse>> {
        not_here()
    }

    async fn kick(&self, _: Request<KickRequest>) -> Result<Response<KickResponse>> {
        not_here()
    }

    async fn progress(&self, _: Request<ProgressRequest>) -> Result<Response<ProgressResponse>> {
        not_here()
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>> {
        not_here()
    }
}
