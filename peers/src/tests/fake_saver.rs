//! A saver that answers what the test wants and notes what it was asked.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use proto::internal::{
    self as rpc,
    saver_server::{Saver, SaverServer},
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, service::Routes};

type Answer<T> = Result<Response<T>, Status>;

/// Clones share the state.
#[derive(Clone, Default)]
pub(super) struct FakeSaver {
    pub(super) id: u32,
    pub(super) seen: Arc<Mutex<Seen>>,
    /// So many calls fail as unavailable, each after it was done.
    pub(super) failing: Arc<AtomicU32>,
    /// Calls hang for ever.
    pub(super) hangs: bool,
    /// Told of each call.
    pub(super) called: Arc<Notify>,
    pub(super) refusal: Option<rpc::Refusal>,
    pub(super) directory: Arc<Mutex<rpc::AppsResponse>>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) appends: Vec<rpc::Append>,
    /// Items of each batch of acks.
    pub(super) acks: Vec<usize>,
    /// Items of each batch of loads.
    pub(super) loads: Vec<usize>,
    pub(super) heads: Vec<u32>,
    pub(super) put_apps: u32,
    /// Classes of the messages of each append.
    pub(super) classes: Vec<Vec<rpc::Durability>>,
    pub(super) apps: u32,
    pub(super) reserved: Option<u64>,
}

impl FakeSaver {
    pub(super) fn new(id: u32) -> Self {
        Self { id, ..Self::default() }
    }

    pub(super) fn routes(&self) -> Routes {
        Routes::new(SaverServer::new(self.clone()))
    }

    async fn answer<T>(&self, answer: T) -> Answer<T> {
        self.called.notify_one();
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let failing = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() { Err(Status::unavailable("made up")) } else { Ok(Response::new(answer)) }
    }
}

#[tonic::async_trait]
impl Saver for FakeSaver {
    async fn put_job(
        &self,
        _: tonic::Request<proto::internal::PutJobRequest>,
    ) -> Result<tonic::Response<proto::internal::JobResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("put_job"))
    }

    async fn find_job(
        &self,
        _: tonic::Request<proto::internal::FindJobRequest>,
    ) -> Result<tonic::Response<proto::internal::JobResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("find_job"))
    }

    async fn active_jobs(
        &self,
        _: tonic::Request<proto::internal::ActiveJobsRequest>,
    ) -> Result<tonic::Response<proto::internal::JobsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("active_jobs"))
    }

    async fn list_jobs(
        &self,
        _: tonic::Request<proto::internal::ListJobsRequest>,
    ) -> Result<tonic::Response<proto::internal::JobsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("list_jobs"))
    }

    async fn change_job(
        &self,
        _: tonic::Request<proto::internal::ChangeJobRequest>,
    ) -> Result<tonic::Response<proto::internal::JobResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("change_job"))
    }

    async fn release_job(
        &self,
        _: tonic::Request<proto::internal::ReleaseJobRequest>,
    ) -> Result<tonic::Response<proto::internal::ReleaseJobResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("release_job"))
    }

    async fn put_parts(
        &self,
        _: tonic::Request<proto::internal::PutPartsRequest>,
    ) -> Result<tonic::Response<proto::internal::PutPartsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("put_parts"))
    }

    async fn targets(
        &self,
        _: tonic::Request<proto::internal::TargetsRequest>,
    ) -> Result<tonic::Response<proto::internal::TargetsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("targets"))
    }

    async fn put_scheduled(
        &self,
        _: tonic::Request<proto::internal::PutScheduledRequest>,
    ) -> Result<tonic::Response<proto::internal::PutScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("put_scheduled"))
    }

    async fn due_scheduled(
        &self,
        _: tonic::Request<proto::internal::DueScheduledRequest>,
    ) -> Result<tonic::Response<proto::internal::ScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("due_scheduled"))
    }

    async fn list_scheduled(
        &self,
        _: tonic::Request<proto::internal::ListScheduledRequest>,
    ) -> Result<tonic::Response<proto::internal::ScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("list_scheduled"))
    }

    async fn remove_scheduled(
        &self,
        _: tonic::Request<proto::internal::RemoveScheduledRequest>,
    ) -> Result<tonic::Response<proto::internal::RemoveScheduledResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("remove_scheduled"))
    }

    async fn utc_offsets(
        &self,
        _: tonic::Request<proto::internal::UtcOffsetsRequest>,
    ) -> Result<tonic::Response<proto::internal::UtcOffsetsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("utc_offsets"))
    }

    /// A position tells the shard (epoch) and the user: uids are numbers.
    async fn append(&self, request: Request<rpc::AppendRequest>) -> Answer<rpc::AppendResponse> {
        let items = request.into_inner().items;
        {
            let mut seen = self.seen.lock().unwrap();
            seen.classes.push(items.iter().map(rpc::Append::durability).collect());
            seen.appends.extend(items.iter().cloned());
        }
        let position = |uid: &String| rpc::Position { epoch: self.id.into(), seq: uid.parse().unwrap() };
        let results = items.iter().map(|item| rpc::AppendResult {
            positions: item.uids.iter().map(position).collect(),
            refusal: self.refusal.clone(),
            repeated: false,
        });
        self.answer(rpc::AppendResponse { results: results.collect() }).await
    }

    async fn load(&self, request: Request<rpc::LoadRequest>) -> Answer<rpc::LoadResponse> {
        let items = &request.get_ref().items;
        self.seen.lock().unwrap().loads.push(items.len());
        // The start tells who has been asked for whom.
        let start =
            |uid: &String| rpc::Position { epoch: self.id.into(), seq: uid.parse().unwrap_or_default() };
        let result = |item: &rpc::LoadItem| rpc::LoadResult {
            refusal: self.refusal.clone(),
            start: Some(start(&item.uid)),
            through: 7,
            ..Default::default()
        };
        self.answer(rpc::LoadResponse { results: items.iter().map(result).collect() }).await
    }

    async fn ack(&self, request: Request<rpc::AckRequest>) -> Answer<rpc::AckResponse> {
        self.seen.lock().unwrap().acks.push(request.into_inner().items.len());
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        self.answer(rpc::AckResponse {}).await
    }

    async fn reserve(&self, request: Request<rpc::ReserveRequest>) -> Answer<rpc::ReserveResponse> {
        let offered = request.into_inner().id;
        let (id, repeated) = {
            let mut seen = self.seen.lock().unwrap();
            (*seen.reserved.get_or_insert(offered), seen.reserved.is_some())
        };
        self.answer(rpc::ReserveResponse { id, repeated, ..Default::default() }).await
    }

    async fn recall(&self, _: Request<rpc::RecallRequest>) -> Answer<rpc::RecallResponse> {
        let recalled = vec![format!("of {}", self.id)];
        self.answer(rpc::RecallResponse { recalled, ..Default::default() }).await
    }

    async fn ledger(&self, _: Request<rpc::LedgerRequest>) -> Answer<rpc::LedgerResponse> {
        self.answer(rpc::LedgerResponse { found: true, targets: 10, acked: 10, ..Default::default() }).await
    }

    async fn depth(&self, _: Request<rpc::DepthRequest>) -> Answer<rpc::DepthResponse> {
        self.answer(rpc::DepthResponse { depth: self.id.into() }).await
    }

    async fn append_broadcast(
        &self,
        _: Request<rpc::AppendBroadcastRequest>,
    ) -> Answer<rpc::AppendBroadcastResponse> {
        let refusal = self.refusal.clone();
        self.answer(rpc::AppendBroadcastResponse { bseq: 1, refusal, ..Default::default() }).await
    }

    async fn load_broadcasts(
        &self,
        _: Request<rpc::LoadBroadcastsRequest>,
    ) -> Answer<rpc::LoadBroadcastsResponse> {
        self.answer(rpc::LoadBroadcastsResponse::default()).await
    }

    async fn recall_broadcast(
        &self,
        _: Request<rpc::RecallBroadcastRequest>,
    ) -> Answer<rpc::RecallBroadcastResponse> {
        self.answer(rpc::RecallBroadcastResponse { recalled: true }).await
    }

    async fn broadcast_heads(
        &self,
        request: Request<rpc::BroadcastHeadsRequest>,
    ) -> Answer<rpc::BroadcastHeadsResponse> {
        let apps = request.into_inner().apps;
        self.seen.lock().unwrap().heads.extend(&apps);
        let heads = apps.iter().map(|app| rpc::BroadcastHead { app: *app, epoch: 1, head: self.id.into() });
        self.answer(rpc::BroadcastHeadsResponse { heads: heads.collect() }).await
    }

    async fn apps(&self, request: Request<rpc::AppsRequest>) -> Answer<rpc::AppsResponse> {
        self.seen.lock().unwrap().apps += 1;
        let mut response = self.directory.lock().unwrap().clone();
        response.apps.retain(|app| app.revision > request.get_ref().after_revision);
        self.answer(response).await
    }

    async fn put_app(&self, request: Request<rpc::PutAppRequest>) -> Answer<rpc::PutAppResponse> {
        self.seen.lock().unwrap().put_apps += 1;
        self.answer(rpc::PutAppResponse { app: request.into_inner().app, refusal: None }).await
    }

    async fn put_key(&self, _: Request<rpc::PutKeyRequest>) -> Answer<rpc::PutKeyResponse> {
        self.answer(rpc::PutKeyResponse::default()).await
    }

    async fn find_key(&self, _: Request<rpc::FindKeyRequest>) -> Answer<rpc::FindKeyResponse> {
        self.answer(rpc::FindKeyResponse { found: true, ..Default::default() }).await
    }
}
