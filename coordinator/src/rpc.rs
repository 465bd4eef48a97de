//! The gRPC service `Coordinator`: thin translation, no logic.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proto::internal::{self as rpc, UpOutcome, coordinator_server::Coordinator};
use rand::RngExt as _;
use tonic::{Request, Response, Status};

use crate::{event::Event, intake::Intake, kick::Kicker, lane::Lanes, metrics::Received};

pub(crate) struct CoordinatorRpc {
    pub(crate) intake: Intake,
    pub(crate) kicker: Kicker,
    pub(crate) lanes: Lanes,
}

impl CoordinatorRpc {
    /// Jittered, so that who was refused together does not come back together.
    fn up_result(&self, received: Received) -> rpc::UpResult {
        let (outcome, retry_after) = match received {
            Received::Taken => (UpOutcome::Taken, Duration::ZERO),
            Received::NoRoute => (UpOutcome::Rejected, Duration::ZERO),
            Received::Retry => {
                (UpOutcome::Retry, self.lanes.config().retry_after.mul_f64(0.5 + rand::rng().random::<f64>()))
            }
        };
        rpc::UpResult { outcome: outcome.into(), retry_after_ms: retry_after.as_millis() as u32 }
    }
}

#[tonic::async_trait]
impl Coordinator for CoordinatorRpc {
    async fn up(&self, request: Request<rpc::UpRequest>) -> Result<Response<rpc::UpResponse>, Status> {
        let events = request.into_inner().items.into_iter().map(|mut item| {
            // As decoded it shares the buffer of the whole batch, which an event that waits for long would keep.
            item.payload = Bytes::copy_from_slice(&item.payload);
            Event::Up(item)
        });
        let events = events.collect();
        let results = self.intake.take(events).await.into_iter().map(|r| self.up_result(r)).collect();
        Ok(Response::new(rpc::UpResponse { results }))
    }

    async fn events(
        &self,
        request: Request<rpc::EventsRequest>,
    ) -> Result<Response<rpc::EventsResponse>, Status> {
        let events = request.into_inner().events.into_iter().map(Event::State).collect();
        // An app that wants no events has got all that it wants.
        let taken = self.intake.take(events).await.into_iter().map(|r| r != Received::Retry).collect();
        Ok(Response::new(rpc::EventsResponse { taken }))
    }

    /// If one kick fails the call does, after all others have been made: a repeat of the whole does no harm, and an
    /// error is better than to say of somebody online that he was not.
    async fn kick(
        &self,
        request: Request<rpc::KickUsersRequest>,
    ) -> Result<Response<rpc::KickUsersResponse>, Status> {
        let users = request.into_inner().users;
        let kicks = join_all(users.iter().map(|user| self.kicker.kick(user))).await;
        let was_online = kicks.into_iter().collect::<Result<Vec<bool>, _>>()?;
        let kicked = was_online.iter().filter(|was_online| **was_online).count();
        self.intake.metrics.kicks.inc_by(kicked as u64);
        Ok(Response::new(rpc::KickUsersResponse { was_online }))
    }
}
