//! What centers ask of each other: to and from gRPC, no logic.

use cluster::NodeId;
use proto::internal::{
    PartProgressRequest, PartProgressResponse, RelayRequest, RelayResponse,
    center_server::{Center, CenterServer},
};
use tonic::{Request, Response, Status, service::Routes};

use super::parts::Parts;

/// Rooms, and broadcasts, of one call: more than a cluster has, and bounded.
const MANY: usize = 4_096;

struct Rpc {
    parts: Parts,
}

/// The service.
pub(crate) fn routes(parts: Parts) -> Routes {
    Routes::new(CenterServer::new(Rpc { parts }))
}

#[tonic::async_trait]
impl Center for Rpc {
    async fn relay(&self, request: Request<RelayRequest>) -> Result<Response<RelayResponse>, Status> {
        let RelayRequest { notice, rooms } = request.into_inner();
        let notice = notice.ok_or_else(|| Status::invalid_argument("no notice"))?;
        let missed = self.parts.tell_part(&notice, &nodes(rooms)?).await;
        Ok(Response::new(RelayResponse { missed: missed.into_iter().map(|room| room.0).collect() }))
    }

    async fn part_progress(
        &self,
        request: Request<PartProgressRequest>,
    ) -> Result<Response<PartProgressResponse>, Status> {
        let PartProgressRequest { ids, rooms } = request.into_inner();
        if ids.len() > MANY {
            return Err(Status::invalid_argument("too many broadcasts"));
        }
        let told = self.parts.progress_part(&nodes(rooms)?, &ids).await;
        let progress = told.rooms.into_iter().flat_map(|(_, progress)| progress).collect();
        let missed = told.missed.into_iter().map(|room| room.0).collect();
        Ok(Response::new(PartProgressResponse { progress, missed }))
    }
}

fn nodes(rooms: Vec<u32>) -> Result<Vec<NodeId>, Status> {
    match rooms.len() <= MANY {
        true => Ok(rooms.into_iter().map(NodeId).collect()),
        false => Err(Status::invalid_argument("too many rooms")),
    }
}
