//! The centers, as they ask each other for parts of broadcast jobs, and to stop what is taken back.

use std::sync::Arc;

use cluster::{NodeId, Role, Transport};
use proto::internal::{self as rpc, center_client::CenterClient};

use crate::{
    PeerError,
    call::Repeat,
    links::To,
    role::role,
    wire::{Control, Line, Wire},
};

struct CenterLine {
    control: Control,
    client: CenterClient<Transport>,
}

impl Line for CenterLine {
    const ROLE: Role = Role::Center;

    fn open(wire: &mut Wire) -> Self {
        Self { control: wire.control(), client: CenterClient::new(wire.transport()) }
    }
}

role! {
    /// Calls to the centers. Clones are cheap and share connections and queues.
    ///
    /// Which center is responsible for which part, the callers say: a part that a center does not take in time is done by whoever
    /// asked it, so nothing is tried twice here.
    Centers, CenterLine
}

impl Centers {
    /// Has a center tell rooms of one slice of a broadcast; answers the rooms that it could not reach.
    ///
    /// # Errors
    /// [`PeerError`]: none of the rooms may know.
    pub async fn relay(&self, center: NodeId, request: rpc::RelayRequest) -> Result<Vec<NodeId>, PeerError> {
        let call = |line: Arc<CenterLine>| {
            let request = request.clone();
            async move { line.control.call(line.client.clone().relay(request)).await }
        };
        let answer = self.links.call(To::Node(center), Repeat::Needless, call).await?;
        Ok(answer.missed.into_iter().map(NodeId).collect())
    }

    /// What rooms that a center follows have told of broadcasts: for each room that answered it, in the order of `rooms`, one
    /// count for each of `ids`; and the rooms that did not.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn part_progress(
        &self,
        center: NodeId,
        request: rpc::PartProgressRequest,
    ) -> Result<rpc::PartProgressResponse, PeerError> {
        let call = |line: Arc<CenterLine>| {
            let request = request.clone();
            async move { line.control.call(line.client.clone().part_progress(request)).await }
        };
        self.links.call(To::Node(center), Repeat::Needless, call).await
    }

    /// Has a center look which jobs there are: one that it runs was made or changed.
    ///
    /// # Errors
    /// [`PeerError`]: it looks later, by itself. Of a center that is older than this call, too.
    pub async fn look(&self, center: NodeId) -> Result<(), PeerError> {
        let call = |line: Arc<CenterLine>| async move {
            line.control.call(line.client.clone().look(rpc::LookRequest {})).await
        };
        self.links.call(To::Node(center), Repeat::Needless, call).await.map(drop)
    }

    /// Has a center send a message to no further users; whether nothing of it is on its way to the savers any more.
    ///
    /// # Errors
    /// [`PeerError`]: it may go on. Of a center that is older than this call, too.
    pub async fn stop(&self, center: NodeId, request: rpc::StopRequest) -> Result<bool, PeerError> {
        let call =
            |line: Arc<CenterLine>| async move { line.control.call(line.client.clone().stop(request)).await };
        Ok(self.links.call(To::Node(center), Repeat::Needless, call).await?.quiet)
    }
}
