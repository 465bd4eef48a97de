//! The gRPC service by which a node tells of itself.

use std::{sync::Arc, time::Duration};

use cluster::{Me, NodeInfo, NodeState};
use proto::internal::{self as rpc, node_server::Node};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Whoever waits for news is answered after this time at the latest: longer than any node asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct NodeRpc {
    pub(crate) me: Arc<Me>,
    /// Ends the process; `None` where the process is not the node's.
    pub(crate) end: Option<CancellationToken>,
}

#[tonic::async_trait]
impl Node for NodeRpc {
    async fn status(
        &self,
        request: Request<rpc::StatusRequest>,
    ) -> Result<Response<rpc::StatusResponse>, Status> {
        let request = request.into_inner();
        if request.wait_ms > 0 {
            self.news(&request).await;
        }
        let info = self.me.info();
        let state = state_of(&info);
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

impl NodeRpc {
    /// Waits until the entry is another than the asker knows, or for as long as it said.
    async fn news(&self, known: &rpc::StatusRequest) {
        let mut entry = self.me.subscribe();
        let news = entry.wait_for(|info| {
            state_of(info) != known.known() || known.connections.is_some_and(|n| n != info.load.connections)
        });
        let wait = Duration::from_millis(known.wait_ms.into()).min(LONGEST_WAIT);
        // Both ends of the wait mean the same: what is known now is told.
        let _ = tokio::time::timeout(wait, news).await;
    }
}

fn state_of(info: &NodeInfo) -> rpc::NodeState {
    match info.state {
        NodeState::Starting | NodeState::Down => rpc::NodeState::Starting,
        NodeState::Ready => rpc::NodeState::Ready,
        NodeState::Draining => rpc::NodeState::Draining,
    }
}

#[cfg(test)]
mod tests {
    use cluster::{Incarnation, Load, NodeId, Role};
    use tokio::time::Instant;

    use super::*;

    async fn ask(me: &Arc<Me>, request: rpc::StatusRequest) -> (rpc::NodeState, u64, Duration) {
        let (rpc, began) = (NodeRpc { me: me.clone(), end: None }, Instant::now());
        let answer = rpc.status(Request::new(request)).await.unwrap().into_inner();
        (answer.state(), answer.connections, began.elapsed())
    }

    /// Who waits for news is told at once, and otherwise when it has waited as long as it would.
    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_when_it_happens() {
        use rpc::NodeState::{Draining, Ready};
        let me = Arc::new(Me::new(Role::Room, NodeId(1), Incarnation(1), "", None));
        me.set_state(NodeState::Ready);
        let wait = rpc::StatusRequest { wait_ms: 5_000, known: Ready.into(), connections: None };
        assert_eq!(ask(&me, rpc::StatusRequest::default()).await, (Ready, 0, Duration::ZERO));
        assert_eq!(ask(&me, wait).await, (Ready, 0, Duration::from_secs(5)));
        let later = |after: u64, change: fn(&Me)| {
            let me = me.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(after)).await;
                change(&me);
            })
        };
        let fuller = later(1, |me| me.set_load(Load { connections: 7, capacity: 9 }));
        assert_eq!(ask(&me, wait).await, (Ready, 7, Duration::from_secs(5)), "how full it is was not asked");
        fuller.await.unwrap();
        later(1, |me| me.set_load(Load { connections: 8, capacity: 9 }));
        let full = rpc::StatusRequest { connections: Some(7), ..wait };
        assert_eq!(ask(&me, full).await, (Ready, 8, Duration::from_secs(1)));
        later(2, |me| me.set_state(NodeState::Draining));
        assert_eq!(ask(&me, wait).await, (Draining, 8, Duration::from_secs(2)));
        assert_eq!(ask(&me, wait).await, (Draining, 8, Duration::ZERO));
    }
}
