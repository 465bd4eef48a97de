//! A room that notes what it was told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::internal::{
    self as rpc, Delivery,
    room_server::{Room, RoomServer},
};
use tonic::{Request, Response, Status, service::Routes};

type Answer<T> = Result<Response<T>, Status>;

/// Clones share the state.
#[derive(Clone, Default)]
pub(super) struct FakeRoom {
    pub(super) seen: Arc<Mutex<Seen>>,
    delivering: Arc<AtomicUsize>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) deliveries: Vec<rpc::DeliverRequest>,
    /// The most requests that were under way at a time.
    pub(super) at_a_time: usize,
    pub(super) broadcasts: Vec<u64>,
}

impl FakeRoom {
    pub(super) fn routes(&self) -> Routes {
        Routes::new(RoomServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl Room for FakeRoom {
    async fn count_audience(
        &self,
        _: tonic::Request<proto::internal::CountAudienceRequest>,
    ) -> Result<tonic::Response<proto::internal::CountAudienceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("count_audience"))
    }

    async fn deliver(&self, request: Request<rpc::DeliverRequest>) -> Answer<rpc::DeliverResponse> {
        let now = self.delivering.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.delivering.fetch_sub(1, Ordering::SeqCst);
        let request = request.into_inner();
        let results = vec![Delivery::Sent.into(); request.items.len()];
        let mut seen = self.seen.lock().unwrap();
        seen.at_a_time = seen.at_a_time.max(now);
        seen.deliveries.push(request);
        Ok(Response::new(rpc::DeliverResponse { results }))
    }

    async fn broadcast(
        &self,
        request: Request<rpc::BroadcastNotice>,
    ) -> Answer<rpc::BroadcastNoticeResponse> {
        self.seen.lock().unwrap().broadcasts.push(request.into_inner().bseq);
        Ok(Response::new(rpc::BroadcastNoticeResponse {}))
    }

    async fn recall(&self, _: Request<rpc::RecallNotice>) -> Answer<rpc::RecallNoticeResponse> {
        Ok(Response::new(rpc::RecallNoticeResponse { notified: 3 }))
    }

    async fn kick(&self, request: Request<rpc::KickRequest>) -> Answer<rpc::KickResponse> {
        let kicked = request.into_inner().items.iter().map(|item| item.fence > 0).collect();
        Ok(Response::new(rpc::KickResponse { kicked }))
    }

    async fn progress(&self, request: Request<rpc::ProgressRequest>) -> Answer<rpc::ProgressResponse> {
        let part = |id| rpc::Progress { id, targets: 5, sent: 4, acked: 3, ..Default::default() };
        // A room tells only of what it knows, in whatever order.
        let progress = request.into_inner().ids.into_iter().rev().filter(|id| *id != 404).map(part).collect();
        Ok(Response::new(rpc::ProgressResponse { progress, behind: false }))
    }

    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Answer<rpc::DrainResponse> {
        Ok(Response::new(rpc::DrainResponse {}))
    }
}
