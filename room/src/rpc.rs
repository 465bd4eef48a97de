//! The gRPC service: a thin translation to orders for the threads.

use std::sync::Arc;

use audience::ParseError;
use bytes::Bytes;
use proto::internal::{self as rpc, room_server};
use tonic::{Request, Response, Status};
use wire::id::{AppId, Bseq, Cursor, Epoch, FenceNumber, Uid};

use crate::{
    backend::filter,
    error::RoomError,
    exchange::{Delivery, DeliveryItem, KickOrder, KickWhy, Meant},
    orders::Orders,
};

/// Largest request, bytes: a batch of deliveries is 1 MiB, and one message may be as large.
pub(crate) const MAX_REQUEST: usize = 8 << 20;

/// The service.
pub(crate) struct Grpc<S>(pub(crate) Arc<Orders<S>>);

#[tonic::async_trait]
impl<S: crate::backend::Services> room_server::Room for Grpc<S> {
    async fn count_audience(
        &self,
        request: Request<rpc::CountAudienceRequest>,
    ) -> Result<Response<rpc::CountAudienceResponse>, Status> {
        let request = request.into_inner();
        let refused = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let audience = request.audience.parse().map_err(|error: ParseError| refused(&error))?;
        let (filter, slice) = filter(request.filter.as_ref()).map_err(|error| refused(&error))?.split();
        let meant = Meant { audience, filter };
        let bindings = self.0.count(AppId(request.app), meant, slice).await?;
        Ok(Response::new(rpc::CountAudienceResponse { bindings }))
    }

    async fn deliver(
        &self,
        request: Request<rpc::DeliverRequest>,
    ) -> Result<Response<rpc::DeliverResponse>, Status> {
        let request = request.into_inner();
        let count = request.items.len();
        // An item with an impossible uid has no binding here, and must not fail the others.
        let (places, items): (Vec<usize>, Vec<DeliveryItem>) = request
            .items
            .iter()
            .enumerate()
            .filter_map(|(place, item)| Some((place, delivery(item, &request.payloads)?)))
            .unzip();
        let mut results = vec![i32::from(rpc::Delivery::NotHere); count];
        for (place, result) in places.into_iter().zip(self.0.deliver(items).await?) {
            results[place] = match result {
                Delivery::NotHere => rpc::Delivery::NotHere,
                Delivery::Sent => rpc::Delivery::Sent,
                Delivery::Shed => rpc::Delivery::Shed,
                Delivery::Away => rpc::Delivery::Away,
            }
            .into();
        }
        Ok(Response::new(rpc::DeliverResponse { results }))
    }

    async fn broadcast(
        &self,
        request: Request<rpc::BroadcastNotice>,
    ) -> Result<Response<rpc::BroadcastNoticeResponse>, Status> {
        self.0.broadcast(request.into_inner()).await?;
        Ok(Response::new(rpc::BroadcastNoticeResponse {}))
    }

    async fn recall(
        &self,
        request: Request<rpc::RecallNotice>,
    ) -> Result<Response<rpc::RecallNoticeResponse>, Status> {
        let notice = request.into_inner();
        let notified = self.0.recall(AppId(notice.app), notice.id, notice.uids).await?;
        Ok(Response::new(rpc::RecallNoticeResponse { notified }))
    }

    async fn kick(&self, request: Request<rpc::KickRequest>) -> Result<Response<rpc::KickResponse>, Status> {
        let orders: Result<Vec<KickOrder>, RoomError> = request.into_inner().items.iter().map(kick).collect();
        Ok(Response::new(rpc::KickResponse { kicked: self.0.kick(orders?).await? }))
    }

    async fn progress(
        &self,
        request: Request<rpc::ProgressRequest>,
    ) -> Result<Response<rpc::ProgressResponse>, Status> {
        let rpc::ProgressRequest { ids, app, epoch, head } = request.into_inner();
        let place = Cursor { epoch: Epoch(epoch), bseq: Bseq(head) };
        let (done, behind) = self.0.progress(ids.clone(), (app != 0).then_some((AppId(app), place))).await?;
        let progress = ids.into_iter().zip(done).map(|(id, done)| rpc::Progress {
            id,
            targets: done.targets(),
            sent: done.sent,
            acked: done.acked,
            pending: done.pending,
            latency: done.latency.to_vec(),
            ripe: done.ripe,
            ripe_acked: done.ripe_acked,
            expired: done.expired,
            recalled: done.recalled,
        });
        Ok(Response::new(rpc::ProgressResponse { progress: progress.collect(), behind }))
    }

    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Result<Response<rpc::DrainResponse>, Status> {
        self.0.start_drain().await?;
        Ok(Response::new(rpc::DrainResponse {}))
    }
}

fn delivery(item: &rpc::DeliverItem, payloads: &[Bytes]) -> Option<DeliveryItem> {
    // An index out of bounds is a nudge: the message is read from the saver.
    let payload = item.payload.and_then(|index| payloads.get(index as usize)).cloned();
    Some(DeliveryItem {
        app: AppId(item.app),
        uid: Uid::new(&item.uid).ok()?,
        fence: (item.fence != 0).then_some(FenceNumber(item.fence)),
        epoch: item.epoch,
        seq: item.seq,
        id: item.id.into(),
        payload,
        accepted_ms: item.accepted_ms,
        collapse_key: item.collapse_key.as_str().into(),
        urgent: item.urgent,
    })
}

fn kick(item: &rpc::KickItem) -> Result<KickOrder, RoomError> {
    let why = match item.reason() {
        rpc::KickReason::Replaced => KickWhy::Replaced,
        rpc::KickReason::Kicked | rpc::KickReason::Unspecified => KickWhy::Kicked,
    };
    let uid = Uid::new(&item.uid).map_err(|_| RoomError::Invalid("uid must have 1 to 128 bytes"))?;
    Ok(KickOrder { app: AppId(item.app), uid, fence: FenceNumber(item.fence), why })
}
