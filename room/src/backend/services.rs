//! What the room needs of the other services.

use std::{future::Future, sync::Arc};

use cluster::NodeId;
use futures::{FutureExt as _, future::join_all};
use peers::{Again, AppDirectory, Coordinators, First, PeerError, Registers, Savers};
use proto::internal as rpc;

/// What the room needs of the other services: the real ones, or a test's.
pub trait Services: Clone + Send + Sync + 'static {
    /// An app by its key.
    fn app(&self, key: &str) -> impl Future<Output = Result<Option<Arc<rpc::App>>, PeerError>> + Send;
    /// The same, if it need not be asked for.
    fn app_at_hand(&self, _key: &str) -> Option<Arc<rpc::App>> {
        None
    }
    /// The register that a user's session goes to, so that those for one go together. `None`: it is all the same.
    fn register_of(&self, _app: u32, _uid: &str) -> Option<NodeId> {
        None
    }
    /// The saver that has a user's inbox, likewise.
    fn saver_of(&self, _app: u32, _uid: &str) -> Option<NodeId> {
        None
    }
    /// Enters sessions in one attempt, with one call to each register; what came of each, in their order.
    fn bind_all(&self, items: Vec<rpc::BindItem>) -> impl Future<Output = Vec<First<u64>>> + Send {
        join_all(items.into_iter().map(|item| self.bind(item).map(first)))
    }
    /// Goes on with one of these that failed.
    fn bind_again(
        &self,
        item: rpc::BindItem,
        _again: Again,
    ) -> impl Future<Output = Result<u64, PeerError>> + Send {
        self.bind(item)
    }
    /// Enters a session; its fence.
    fn bind(&self, item: rpc::BindItem) -> impl Future<Output = Result<u64, PeerError>> + Send;
    /// Removes a session; whether it was there.
    fn unbind(&self, item: rpc::UnbindItem) -> impl Future<Output = Result<bool, PeerError>> + Send;
    /// Tells a register sessions that the room holds.
    fn restore(
        &self,
        register: NodeId,
        request: rpc::RestoreRequest,
    ) -> impl Future<Output = Result<rpc::RestoreResponse, PeerError>> + Send;
    /// Says to a register that it has been told all sessions; whether it wants to be told again.
    fn settle(
        &self,
        register: NodeId,
        request: rpc::SettleRequest,
    ) -> impl Future<Output = Result<bool, PeerError>> + Send;
    /// Reads inboxes in one attempt, with few calls to each saver; what came of each, in their order.
    fn load_all(
        &self,
        items: Vec<rpc::LoadItem>,
    ) -> impl Future<Output = Vec<First<rpc::LoadResult>>> + Send {
        join_all(items.into_iter().map(|item| self.load(item).map(first)))
    }
    /// Goes on with one of these that failed.
    fn load_again(
        &self,
        item: rpc::LoadItem,
        _again: Again,
    ) -> impl Future<Output = Result<rpc::LoadResult, PeerError>> + Send {
        self.load(item)
    }
    /// Reads an inbox.
    fn load(&self, item: rpc::LoadItem) -> impl Future<Output = Result<rpc::LoadResult, PeerError>> + Send;
    /// Acks an inbox, keeps a cursor.
    fn ack(&self, item: rpc::AckItem) -> impl Future<Output = Result<(), PeerError>> + Send;
    /// Newest numbers of logs.
    fn heads(&self, apps: &[u32]) -> impl Future<Output = Result<Vec<rpc::BroadcastHead>, PeerError>> + Send;
    /// Reads a log.
    fn log(
        &self,
        request: rpc::LoadBroadcastsRequest,
    ) -> impl Future<Output = Result<rpc::LoadBroadcastsResponse, PeerError>> + Send;
    /// Hands upstream data over.
    fn up(&self, item: rpc::UpItem) -> impl Future<Output = Result<rpc::UpResult, PeerError>> + Send;
    /// Whether anybody is told who of this app comes and goes. Said of an app that is not at hand: perhaps.
    fn wants_events(&self, _app: u32) -> bool {
        true
    }
    /// Hands a state event over; whether it is safe.
    fn event(&self, event: rpc::StateEvent) -> impl Future<Output = Result<bool, PeerError>> + Send;
}

/// A call by itself has been tried as often as it may.
fn first<T>(result: Result<T, PeerError>) -> First<T> {
    result.map_or_else(First::Failed, First::Done)
}

/// The services of the cluster.
#[derive(Clone)]
pub struct Peers {
    /// Apps.
    pub apps: AppDirectory,
    /// Sessions.
    pub registers: Registers,
    /// Inboxes and logs.
    pub savers: Savers,
    /// Upstream data and events.
    pub coordinators: Coordinators,
}

impl Services for Peers {
    async fn app(&self, key: &str) -> Result<Option<Arc<rpc::App>>, PeerError> {
        self.apps.find_by_key(key).await
    }

    fn app_at_hand(&self, key: &str) -> Option<Arc<rpc::App>> {
        self.apps.get_by_key(key)
    }

    fn register_of(&self, app: u32, uid: &str) -> Option<NodeId> {
        self.registers.owner(app, uid)
    }

    fn saver_of(&self, app: u32, uid: &str) -> Option<NodeId> {
        self.savers.owner(app, uid)
    }

    async fn bind_all(&self, items: Vec<rpc::BindItem>) -> Vec<First<u64>> {
        self.registers.bind_all(items).await
    }

    async fn bind_again(&self, item: rpc::BindItem, again: Again) -> Result<u64, PeerError> {
        self.registers.bind_again(item, again).await
    }

    async fn bind(&self, item: rpc::BindItem) -> Result<u64, PeerError> {
        self.registers.bind(item).await
    }

    async fn unbind(&self, item: rpc::UnbindItem) -> Result<bool, PeerError> {
        self.registers.unbind(item).await
    }

    async fn restore(
        &self,
        register: NodeId,
        request: rpc::RestoreRequest,
    ) -> Result<rpc::RestoreResponse, PeerError> {
        self.registers.restore(register, request).await
    }

    async fn settle(&self, register: NodeId, request: rpc::SettleRequest) -> Result<bool, PeerError> {
        self.registers.settle(register, request).await
    }

    async fn load_all(&self, items: Vec<rpc::LoadItem>) -> Vec<First<rpc::LoadResult>> {
        self.savers.load_all(items).await
    }

    async fn load_again(&self, item: rpc::LoadItem, again: Again) -> Result<rpc::LoadResult, PeerError> {
        self.savers.load_again(item, again).await
    }

    async fn load(&self, item: rpc::LoadItem) -> Result<rpc::LoadResult, PeerError> {
        self.savers.load(item).await
    }

    async fn ack(&self, item: rpc::AckItem) -> Result<(), PeerError> {
        self.savers.ack(item).await
    }

    async fn heads(&self, apps: &[u32]) -> Result<Vec<rpc::BroadcastHead>, PeerError> {
        self.savers.broadcast_heads(apps).await
    }

    async fn log(
        &self,
        request: rpc::LoadBroadcastsRequest,
    ) -> Result<rpc::LoadBroadcastsResponse, PeerError> {
        self.savers.load_broadcasts(request).await
    }

    async fn up(&self, item: rpc::UpItem) -> Result<rpc::UpResult, PeerError> {
        self.coordinators.up(item).await
    }

    fn wants_events(&self, app: u32) -> bool {
        self.apps.get(app).is_none_or(|app| !app.state_url.is_empty())
    }

    async fn event(&self, event: rpc::StateEvent) -> Result<bool, PeerError> {
        self.coordinators.event(event).await
    }
}
