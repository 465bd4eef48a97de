//! What centers ask of each other: to and from gRPC, no logic.

use cluster::NodeId;
use proto::internal::{
    LookRequest, LookResponse, PartProgressRequest, PartProgressResponse, RelayRequest, RelayResponse,
    StopRequest, StopResponse,
    center_server::{Center, CenterServer},
};
use tonic::{Request, Response, Status, service::Routes};

use super::{
    Jobs,
    keeper::Known,
    parts::{Parts, Place},
};
use crate::under_way::UnderWay;

/// Rooms, and broadcasts, of one call: more than a cluster has, and bounded.
const MANY: usize = 4_096;

struct Rpc {
    parts: Parts,
    known: Known,
    under_way: UnderWay,
}

/// The service.
pub(crate) fn routes(jobs: &Jobs, under_way: UnderWay) -> Routes {
    let (parts, known) = (jobs.parts.clone(), jobs.known.clone());
    Routes::new(CenterServer::new(Rpc { parts, known, under_way }))
}

#[tonic::async_trait]
impl Center for Rpc {
    async fn relay(&self, request: Request<RelayRequest>) -> Result<Response<RelayResponse>, Status> {
        let RelayRequest { notice, rooms } = request.into_inner();
        let notice = notice.ok_or_else(|| Status::invalid_argument("no notice"))?;
        let missed = self.parts.tell_part(&notice, &nodes(rooms)?).await;
        Ok(Response::new(RelayResponse { missed: ids(missed) }))
    }

    async fn part_progress(
        &self,
        request: Request<PartProgressRequest>,
    ) -> Result<Response<PartProgressResponse>, Status> {
        let PartProgressRequest { ids: jobs, rooms, app, epoch, head } = request.into_inner();
        if jobs.len() > MANY {
            return Err(Status::invalid_argument("too many broadcasts"));
        }
        let upto = (app != 0).then_some(Place { app, epoch, head });
        let told = self.parts.progress_part(&nodes(rooms)?, &jobs, upto).await;
        let progress = told.rooms.into_iter().flat_map(|(_, progress)| progress).collect();
        let (missed, behind) = (ids(told.missed), ids(told.behind));
        Ok(Response::new(PartProgressResponse { progress, missed, behind }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let StopRequest { app, id, recalled } = request.into_inner();
        let quiet = self.under_way.stop(app, id, recalled).await;
        Ok(Response::new(StopResponse { quiet }))
    }

    async fn look(&self, _: Request<LookRequest>) -> Result<Response<LookResponse>, Status> {
        self.known.look();
        Ok(Response::new(LookResponse {}))
    }
}

fn nodes(rooms: Vec<u32>) -> Result<Vec<NodeId>, Status> {
    match rooms.len() <= MANY {
        true => Ok(rooms.into_iter().map(NodeId).collect()),
        false => Err(Status::invalid_argument("too many rooms")),
    }
}

fn ids(nodes: Vec<NodeId>) -> Vec<u32> {
    nodes.into_iter().map(|node| node.0).collect()
}
