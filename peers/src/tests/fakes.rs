//! A register and a coordinator that note what they were asked.

use std::sync::{Arc, Mutex};

use proto::internal::{
    self as rpc,
    coordinator_server::{Coordinator, CoordinatorServer},
    register_server::{Register, RegisterServer},
};
use tonic::{Request, Response, Status, service::Routes};

type Answer<T> = Result<Response<T>, Status>;

/// A register that finds every user, in the room that has its own number.
pub(super) struct FakeRegister(pub(super) u32);

impl FakeRegister {
    pub(super) fn routes(self) -> Routes {
        Routes::new(RegisterServer::new(self))
    }
}

#[tonic::async_trait]
impl Register for FakeRegister {
    async fn bind(&self, request: Request<rpc::BindRequest>) -> Answer<rpc::BindResponse> {
        // Nobody is the owner of these, whoever is asked.
        let result = |item: &rpc::BindItem| rpc::BindResult {
            fence: item.conn + 1,
            not_owner: item.uid == "nobody's",
        };
        let results = request.into_inner().items.iter().map(result).collect();
        Ok(Response::new(rpc::BindResponse { results }))
    }

    async fn unbind(&self, request: Request<rpc::UnbindRequest>) -> Answer<rpc::UnbindResponse> {
        let removed = request.into_inner().items.iter().map(|item| item.fence == 5).collect();
        Ok(Response::new(rpc::UnbindResponse { removed }))
    }

    async fn restore(&self, _: Request<rpc::RestoreRequest>) -> Answer<rpc::RestoreResponse> {
        Ok(Response::new(rpc::RestoreResponse { round: 1, lost: vec![self.0] }))
    }

    async fn settle(&self, _: Request<rpc::SettleRequest>) -> Answer<rpc::SettleResponse> {
        Ok(Response::new(rpc::SettleResponse { again: false }))
    }

    /// The connection is the number that the uid is.
    async fn look_up(&self, request: Request<rpc::LookUpRequest>) -> Answer<rpc::LookUpResponse> {
        let result = |item: &rpc::LookUpItem| rpc::LookUpResult {
            presence: rpc::Presence::Online.into(),
            room: self.0,
            conn: item.uid.parse().unwrap(),
            ..Default::default()
        };
        let results = request.into_inner().items.iter().map(result).collect();
        Ok(Response::new(rpc::LookUpResponse { results }))
    }
}

/// Clones share what was seen.
#[derive(Clone, Default)]
pub(super) struct FakeCoordinator {
    pub(super) ups: Arc<Mutex<Vec<u64>>>,
}

impl FakeCoordinator {
    pub(super) fn routes(&self) -> Routes {
        Routes::new(CoordinatorServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl Coordinator for FakeCoordinator {
    async fn up(&self, request: Request<rpc::UpRequest>) -> Answer<rpc::UpResponse> {
        let items = request.into_inner().items;
        self.ups.lock().unwrap().extend(items.iter().map(|item| item.id));
        let taken = rpc::UpResult { outcome: rpc::UpOutcome::Taken.into(), retry_after_ms: 0 };
        Ok(Response::new(rpc::UpResponse { results: vec![taken; items.len()] }))
    }

    async fn events(&self, request: Request<rpc::EventsRequest>) -> Answer<rpc::EventsResponse> {
        let taken = request.into_inner().events.iter().map(|event| event.online).collect();
        Ok(Response::new(rpc::EventsResponse { taken }))
    }

    async fn kick(&self, request: Request<rpc::KickUsersRequest>) -> Answer<rpc::KickUsersResponse> {
        let was_online = request.into_inner().users.iter().map(|user| user.uid == "on").collect();
        Ok(Response::new(rpc::KickUsersResponse { was_online }))
    }
}
