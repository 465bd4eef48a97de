//! The center in miniature.

use proto::v1::{push_service_server::PushService, *};
use tonic::{Request, Response, Result, Status};

use super::{Fault, Shared};

pub(super) struct Api(pub(super) Shared);

fn not_here<T>() -> Result<Response<T>> {
    Err(Status::unimplemented("not in miniature"))
}

#[tonic::async_trait]
impl PushService for Api {
    type ListTargetsStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<proto::v1::Target, tonic::Status>> + Send>>;
    type WatchBroadcastStream = std::pin::Pin<
        Box<dyn futures::Stream<Item = Result<proto::v1::BroadcastState, tonic::Status>> + Send>,
    >;

    async fn multicast_stream(
        &self,
        _: tonic::Request<tonic::Streaming<proto::v1::MulticastChunk>>,
    ) -> Result<tonic::Response<proto::v1::MulticastResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("multicast_stream"))
    }

    async fn list_targets(
        &self,
        _: tonic::Request<proto::v1::ListTargetsRequest>,
    ) -> Result<tonic::Response<Self::ListTargetsStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("list_targets"))
    }

    async fn watch_broadcast(
        &self,
        _: tonic::Request<proto::v1::GetBroadcastRequest>,
    ) -> Result<tonic::Response<Self::WatchBroadcastStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("watch_broadcast"))
    }

    async fn preview_broadcast(
        &self,
        _: tonic::Request<proto::v1::BroadcastRequest>,
    ) -> Result<tonic::Response<proto::v1::BroadcastPreview>, tonic::Status> {
        Err(tonic::Status::unimplemented("preview_broadcast"))
    }

    async fn control_broadcast(
        &self,
        _: tonic::Request<proto::v1::ControlBroadcastRequest>,
    ) -> Result<tonic::Response<proto::v1::BroadcastState>, tonic::Status> {
        Err(tonic::Status::unimplemented("control_broadcast"))
    }

    async fn list_broadcasts(
        &self,
        _: tonic::Request<proto::v1::ListBroadcastsRequest>,
    ) -> Result<tonic::Response<proto::v1::ListBroadcastsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("list_broadcasts"))
    }

    async fn list_scheduled(
        &self,
        _: tonic::Request<proto::v1::ListScheduledRequest>,
    ) -> Result<tonic::Response<proto::v1::ListScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("list_scheduled"))
    }

    async fn cancel_scheduled(
        &self,
        _: tonic::Request<proto::v1::CancelScheduledRequest>,
    ) -> Result<tonic::Response<proto::v1::CancelScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("cancel_scheduled"))
    }

    async fn push_batch(&self, request: Request<PushBatchRequest>) -> Result<Response<PushBatchResponse>> {
        let key = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if key != Some("Bearer lwk_test") {
            return Err(Status::unauthenticated("no key"));
        }
        let mut state = self.0.lock().unwrap();
        state.batches += 1;
        let (mute, forget) = match state.fault {
            Fault::Mute(n) => (state.batches.is_multiple_of(n), false),
            Fault::Forget(n) => (state.batches.is_multiple_of(n), true),
            _ => (false, false),
        };
        let mut results = Vec::new();
        for push in request.into_inner().pushes {
            let known = state.by_key.get(&push.idempotency_key).copied();
            let response = match known {
                Some(known) => PushResponse { repeated: true, ..known },
                None => {
                    let stored = state.store(&push.uid, push.payload);
                    if !forget && !push.idempotency_key.is_empty() {
                        state.by_key.insert(push.idempotency_key, stored);
                    }
                    stored
                }
            };
            results.push(PushResult { result: Some(push_result::Result::Ok(response)) });
        }
        if mute || forget {
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(PushBatchResponse { results }))
    }

    async fn broadcast(&self, request: Request<BroadcastRequest>) -> Result<Response<BroadcastResponse>> {
        let id = self.0.lock().unwrap().broadcast(request.into_inner().payload);
        Ok(Response::new(BroadcastResponse { id, ..BroadcastResponse::default() }))
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<MessageLedger>> {
        let id = request.into_inner().id;
        let acked = self.0.lock().unwrap().acked.get(&id).copied();
        let acked = acked.ok_or_else(|| Status::not_found("no such message"))?;
        let (acked, stored) = (u64::from(acked), u64::from(!acked));
        Ok(Response::new(MessageLedger { id, targets: 1, acked, stored, ..MessageLedger::default() }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<UserState>> {
        let uid = request.into_inner().uid;
        let depth = self.0.lock().unwrap().inboxes.get(&uid).map_or(0, |inbox| inbox.entries.len());
        Ok(Response::new(UserState { inbox_depth: depth as u64, ..UserState::default() }))
    }

    async fn issue_token(&self, _: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>> {
        Ok(Response::new(IssueTokenResponse { token: "t".into(), expires_ms: 0 }))
    }

    async fn push(&self, _: Request<PushRequest>) -> Result<Response<PushResponse>> {
        not_here()
    }

    async fn multicast(&self, _: Request<MulticastRequest>) -> Result<Response<MulticastResponse>> {
        not_here()
    }

    async fn recall(&self, _: Request<RecallRequest>) -> Result<Response<RecallResponse>> {
        not_here()
    }

    async fn get_broadcast(&self, _: Request<GetBroadcastRequest>) -> Result<Response<BroadcastState>> {
        not_here()
    }

    async fn kick(&self, _: Request<KickRequest>) -> Result<Response<KickResponse>> {
        not_here()
    }
}
