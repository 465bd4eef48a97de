//! The gRPC service by which a node tells of itself.

use std::sync::Arc;

use cluster::{Me, NodeState};
use proto::internal::{self as rpc, node_server::Node};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) struct NodeRpc {
    pub(crate) me: Arc<Me>,
    /// Ends the process; `None` where the process is not the node's.
    pub(crate) end: Option<CancellationToken>,
}

#[tonic::async_trait]
impl Node for NodeRpc {
    async fn status(&self, _: Request<rpc::StatusRequest>) -> Result<Response<rpc::StatusResponse>, Status> {
        let info = self.me.info();
        let state = match info.state {
            NodeState::Starting | NodeState::Down => rpc::NodeState::Starting,
            NodeState::Ready => rpc::NodeState::Ready,
            NodeState::Draining => rpc::NodeState::Draining,
        };
        Ok(Response::new(rpc::StatusResponse {
            role: info.role.as_str().to_owned(),
            id: info.id.0,
            incarnation: info.incarnation.0,
            zone: info.zone,
            state: state.into(),
            endpoints: info.endpoints,
            connections: info.load.connections,
            capacity: info.load.capacity,
        }))
    }

    async fn drain(
        &self,
        _: Request<rpc::DrainNodeRequest>,
    ) -> Result<Response<rpc::DrainNodeResponse>, Status> {
        let Some(end) = &self.end else {
            return Err(Status::failed_precondition(
                "this node ends with the process that it shares with others",
            ));
        };
        tracing::info!("asked to drain");
        end.cancel();
        Ok(Response::new(rpc::DrainNodeResponse {}))
    }
}
