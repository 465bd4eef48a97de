//! A cluster in this process whose savers, registers, rooms and coordinators are plain maps, and a center in it.

pub(crate) mod jobs;
pub(crate) mod schedule;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cluster::{Cluster, Discovery, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use flow::FlowMetrics;
use peers::PeerMetrics;
use proto::internal::{
    self as rpc,
    coordinator_server::{Coordinator, CoordinatorServer},
    register_server::{Register, RegisterServer},
    room_server::{Room, RoomServer},
    saver_server::{Saver, SaverServer},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    auth::{Scopes, hash_key},
    config::Config,
    delivery::{Carriers, Delivery},
    jobs::{Jobs, Reach},
    metrics::Metrics,
    ops::{self, Ops, Peers},
};

/// Keys of the fake cluster's apps.
pub(crate) const DEMO_KEY: &str = "lwk_demo";
pub(crate) const READ_KEY: &str = "lwk_read";
pub(crate) const OTHER_KEY: &str = "lwk_other";
pub(crate) const ADMIN_KEY: &str = "lwk_admin";

/// What the fakes keep.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) apps: Vec<rpc::App>,
    pub(crate) keys: HashMap<Vec<u8>, (u32, Vec<String>)>,
    pub(crate) appended: Vec<rpc::Append>,
    /// Position of (uid, id).
    pub(crate) inboxes: BTreeMap<String, Vec<u64>>,
    pub(crate) reserved: HashMap<String, (u64, Vec<u8>)>,
    pub(crate) broadcasts: Vec<rpc::StoredBroadcast>,
    pub(crate) jobs: jobs::FakeJobs,
    pub(crate) schedule: schedule::FakeSchedule,
    /// What the room counts for any audience, and what it is asked.
    pub(crate) audience: u64,
    pub(crate) counted: Vec<rpc::CountAudienceRequest>,
    /// Users online, in room 1.
    pub(crate) online: Vec<String>,
    pub(crate) delivered: Vec<(rpc::DeliverItem, Vec<u8>)>,
    pub(crate) notices: Vec<rpc::BroadcastNotice>,
    pub(crate) recalls: Vec<rpc::RecallNotice>,
    /// Refusal of every append.
    pub(crate) refuse: Option<rpc::Refusal>,
    /// A batch of appends takes so long.
    pub(crate) append_takes: Duration,
}

/// All fakes in one.
#[derive(Clone, Default)]
pub(crate) struct Fakes(Arc<Mutex<State>>);

impl Fakes {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// Fakes of all roles that a center calls, reachable in this process.
pub(crate) struct FakeCluster {
    pub(crate) fakes: Fakes,
    pub(crate) discovery: Embedded,
    pub(crate) local: LocalServices,
}

impl FakeCluster {
    pub(crate) async fn start(config: &Config) -> FakeCluster {
        let fakes = Fakes::default();
        fakes.fill(config);
        let (discovery, local) = (Embedded::default(), LocalServices::default());
        for (id, role, routes) in [
            (1, Role::Room, Routes::new(RoomServer::new(fakes.clone()))),
            (2, Role::Saver, Routes::new(SaverServer::new(fakes.clone()))),
            (3, Role::Register, Routes::new(RegisterServer::new(fakes.clone()))),
            (4, Role::Coordinator, Routes::new(CoordinatorServer::new(fakes.clone()))),
        ] {
            local.insert(NodeId(id), routes);
            let me = Arc::new(Me::new(role, NodeId(id), Incarnation(1), "default", None));
            me.set_state(NodeState::Ready);
            discovery.join(me).await.unwrap();
        }
        FakeCluster { fakes, discovery, local }
    }
}

/// A center over fakes. Its tasks end with it.
pub(crate) struct TestCenter {
    pub(crate) ops: Arc<Ops>,
    pub(crate) fakes: Fakes,
    discovery: Embedded,
    local: LocalServices,
    _stop: tokio_util::sync::DropGuard,
}

impl TestCenter {
    pub(crate) async fn start(config: Config) -> TestCenter {
        let FakeCluster { fakes, discovery, local } = FakeCluster::start(&config).await;
        let me = Arc::new(Me::new(Role::Center, NodeId(9), Incarnation(1), "default", None));
        let cluster = Cluster::new(Arc::new(discovery.clone()), local.clone(), me);
        let cancel = CancellationToken::new();
        let (metrics, flow) = (Metrics::default(), FlowMetrics::default());
        let peers =
            Peers::new(&cluster, config.peers, &PeerMetrics::new(&flow), &cancel, &TaskTracker::new());
        let carriers = Carriers { registers: peers.registers.clone(), rooms: peers.rooms.clone() };
        let (delivery, _) = Delivery::spawn(&config.delivery, &carriers, &metrics, &cancel);
        let reach = Reach {
            cluster: cluster.clone(),
            savers: peers.savers.clone(),
            rooms: peers.rooms.clone(),
            centers: peers.centers.clone(),
            metrics: metrics.clone(),
            clock: Arc::new(cluster::now_ms),
        };
        let (jobs, _) = Jobs::spawn(&reach, &config.broadcasts, &cancel, &cancel);
        let ops = Arc::new(Ops::new(config, peers, cluster, delivery, jobs, metrics));
        TestCenter { ops, fakes, discovery, local, _stop: cancel.drop_guard() }
    }

    /// The center enters the picture.
    pub(crate) async fn join(&self) {
        let me = Arc::new(Me::new(Role::Center, NodeId(9), Incarnation(1), "default", None));
        me.set_state(NodeState::Ready);
        self.discovery.join(me).await.unwrap();
    }

    /// A second saver comes up; a part of all users is its own from then on.
    pub(crate) async fn add_saver(&self) -> Fakes {
        let fakes = Fakes::default();
        fakes.fill(&self.ops.config());
        self.local.insert(NodeId(5), Routes::new(SaverServer::new(fakes.clone())));
        let me = Arc::new(Me::new(Role::Saver, NodeId(5), Incarnation(1), "default", None));
        me.set_state(NodeState::Ready);
        self.discovery.join(me).await.unwrap();
        fakes
    }
}

impl Fakes {
    /// Two apps, and keys for them.
    fn fill(&self, config: &Config) {
        let mut state = self.state();
        for (id, name) in [(1, "demo"), (2, "other")] {
            let app = ops::new_app(&name.parse().unwrap(), &config.new_apps);
            state.apps.push(rpc::App { id, revision: id.into(), ..app });
        }
        for (key, app, scopes) in [
            (DEMO_KEY, 1, &["push", "read"][..]),
            (READ_KEY, 1, &["read"]),
            (OTHER_KEY, 2, &["push", "read"]),
            (ADMIN_KEY, 1, &["admin"]),
        ] {
            assert_ne!(Scopes::from_names(scopes), Scopes::default());
            let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
            state.keys.insert(hash_key(key).to_vec(), (app, scopes));
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Saver for Fakes {
    async fn put_job(&self, request: Request<rpc::PutJobRequest>) -> Answer<rpc::JobResponse> {
        let job = request.into_inner().job.unwrap_or_default();
        Ok(Response::new(self.state().jobs.put(job)))
    }

    async fn find_job(&self, request: Request<rpc::FindJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(self.state().jobs.find(request.into_inner().id)))
    }

    async fn active_jobs(&self, request: Request<rpc::ActiveJobsRequest>) -> Answer<rpc::JobsResponse> {
        let _ = request;
        Ok(Response::new(self.state().jobs.active()))
    }

    async fn list_jobs(&self, request: Request<rpc::ListJobsRequest>) -> Answer<rpc::JobsResponse> {
        Ok(Response::new(self.state().jobs.list(request.into_inner())))
    }

    async fn change_job(&self, request: Request<rpc::ChangeJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(self.state().jobs.change(request.into_inner())))
    }

    async fn release_job(&self, request: Request<rpc::ReleaseJobRequest>) -> Answer<rpc::ReleaseJobResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        let answer = state.jobs.release(request.clone());
        if answer.released && !state.broadcasts.iter().any(|known| known.bseq == answer.bseq) {
            let job = state.jobs.jobs[&request.id].clone();
            state.broadcasts.push(rpc::StoredBroadcast {
                epoch: answer.epoch,
                bseq: answer.bseq,
                id: request.id,
                payload: job.payload,
                audience: job.audience,
                accepted_ms: request.accepted_ms,
                expires_ms: request.expires_ms,
                recalled: false,
                filter: request.filter,
            });
        }
        Ok(Response::new(answer))
    }

    async fn put_parts(&self, request: Request<rpc::PutPartsRequest>) -> Answer<rpc::PutPartsResponse> {
        self.state().jobs.keep(request.into_inner().parts);
        Ok(Response::new(rpc::PutPartsResponse {}))
    }

    async fn targets(&self, request: Request<rpc::TargetsRequest>) -> Answer<rpc::TargetsResponse> {
        let rpc::TargetsRequest { id, after_uid, limit, .. } = request.into_inner();
        let state = self.state();
        let after = state.inboxes.range((Bound::Excluded(after_uid), Bound::Unbounded));
        let has = after.filter(|(_, inbox)| inbox.contains(&id));
        let one = |(uid, _): (&String, _)| rpc::TargetState { uid: uid.clone(), state: "stored".to_owned() };
        let targets: Vec<_> = has.take(limit as usize).map(one).collect();
        let more = targets.len() == limit as usize;
        Ok(Response::new(rpc::TargetsResponse { targets, more }))
    }

    async fn put_scheduled(
        &self,
        request: Request<rpc::PutScheduledRequest>,
    ) -> Answer<rpc::PutScheduledResponse> {
        let push = request.into_inner().push.unwrap_or_default();
        Ok(Response::new(self.state().schedule.put(push)))
    }

    async fn due_scheduled(
        &self,
        request: Request<rpc::DueScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        Ok(Response::new(self.state().schedule.due(request.into_inner())))
    }

    async fn list_scheduled(
        &self,
        request: Request<rpc::ListScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        Ok(Response::new(self.state().schedule.list(request.into_inner())))
    }

    async fn remove_scheduled(
        &self,
        request: Request<rpc::RemoveScheduledRequest>,
    ) -> Answer<rpc::RemoveScheduledResponse> {
        let mut state = self.state();
        if state.schedule.stuck {
            return Err(Status::internal("made up"));
        }
        Ok(Response::new(state.schedule.remove(request.into_inner())))
    }

    async fn utc_offsets(&self, request: Request<rpc::UtcOffsetsRequest>) -> Answer<rpc::UtcOffsetsResponse> {
        Ok(Response::new(self.state().schedule.offsets(&request.into_inner())))
    }

    async fn append(&self, request: Request<rpc::AppendRequest>) -> Answer<rpc::AppendResponse> {
        let takes = self.state().append_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.state();
        let results = request.into_inner().items.into_iter().map(|item| {
            if let Some(refusal) = &state.refuse {
                return rpc::AppendResult { refusal: Some(refusal.clone()), ..Default::default() };
            }
            let mut repeated = false;
            let positions = item.uids.iter().map(|uid| {
                let inbox = state.inboxes.entry(uid.clone()).or_default();
                let at = inbox.iter().position(|id| *id == item.id);
                repeated |= at.is_some();
                let seq = at.unwrap_or_else(|| {
                    inbox.push(item.id);
                    inbox.len() - 1
                });
                rpc::Position { epoch: 1, seq: seq as u64 + 1 }
            });
            let positions = positions.collect();
            state.appended.push(item);
            rpc::AppendResult { positions, refusal: None, repeated }
        });
        let results = results.collect();
        Ok(Response::new(rpc::AppendResponse { results }))
    }

    async fn reserve(&self, request: Request<rpc::ReserveRequest>) -> Answer<rpc::ReserveResponse> {
        let rpc::ReserveRequest { key, id, fingerprint, .. } = request.into_inner();
        let mut state = self.state();
        let repeated = state.reserved.contains_key(&key);
        let (id, known) = state.reserved.entry(key).or_insert((id, fingerprint.to_vec())).clone();
        let mismatch = known != fingerprint;
        Ok(Response::new(rpc::ReserveResponse { id, repeated, mismatch, refusal: None }))
    }

    async fn recall(&self, request: Request<rpc::RecallRequest>) -> Answer<rpc::RecallResponse> {
        let id = request.into_inner().id;
        let mut recalled = Vec::new();
        for (uid, inbox) in &mut self.state().inboxes {
            let before = inbox.len();
            inbox.retain(|stored| *stored != id);
            if inbox.len() != before {
                recalled.push(uid.clone());
            }
        }
        Ok(Response::new(rpc::RecallResponse { recalled, delivered: vec!["reader".to_owned()] }))
    }

    async fn ledger(&self, request: Request<rpc::LedgerRequest>) -> Answer<rpc::LedgerResponse> {
        let id = request.into_inner().id;
        let state = self.state();
        if let Some(broadcast) = state.broadcasts.iter().find(|b| b.id == id) {
            let broadcast = Some(broadcast.clone());
            return Ok(Response::new(rpc::LedgerResponse { found: true, broadcast, ..Default::default() }));
        }
        let Some(append) = state.appended.iter().find(|append| append.id == id) else {
            return Ok(Response::new(rpc::LedgerResponse::default()));
        };
        let stored = state.inboxes.values().filter(|inbox| inbox.contains(&id)).count() as u64;
        let parts = state.appended.iter().filter(|append| append.id == id);
        let targets = parts.map(|append| append.uids.len() as u64).sum::<u64>();
        Ok(Response::new(rpc::LedgerResponse {
            found: true,
            accepted_ms: append.accepted_ms,
            expires_ms: append.expires_ms,
            multicast: append.multicast,
            targets,
            stored,
            recalled: targets.saturating_sub(stored),
            ..Default::default()
        }))
    }

    async fn depth(&self, request: Request<rpc::DepthRequest>) -> Answer<rpc::DepthResponse> {
        let depth = self.state().inboxes.get(&request.into_inner().uid).map_or(0, Vec::len) as u64;
        Ok(Response::new(rpc::DepthResponse { depth }))
    }

    async fn append_broadcast(
        &self,
        request: Request<rpc::AppendBroadcastRequest>,
    ) -> Answer<rpc::AppendBroadcastResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        let known = state.broadcasts.iter().find(|b| b.id == request.id).map(|b| b.bseq);
        let bseq = known.unwrap_or(state.broadcasts.len() as u64 + 1);
        if known.is_none() {
            state.broadcasts.push(rpc::StoredBroadcast {
                epoch: 1,
                bseq,
                id: request.id,
                payload: request.payload,
                audience: request.audience,
                accepted_ms: request.accepted_ms,
                expires_ms: request.expires_ms,
                recalled: false,
                ..Default::default()
            });
        }
        let repeated = known.is_some();
        Ok(Response::new(rpc::AppendBroadcastResponse { epoch: 1, bseq, repeated, refusal: None }))
    }

    async fn recall_broadcast(
        &self,
        request: Request<rpc::RecallBroadcastRequest>,
    ) -> Answer<rpc::RecallBroadcastResponse> {
        let id = request.into_inner().id;
        let mut state = self.state();
        state.jobs.recall(id);
        let found = state.broadcasts.iter_mut().find(|b| b.id == id && !b.recalled);
        let recalled = found.map(|b| b.recalled = true).is_some();
        Ok(Response::new(rpc::RecallBroadcastResponse { recalled }))
    }

    async fn apps(&self, request: Request<rpc::AppsRequest>) -> Answer<rpc::AppsResponse> {
        let after = request.into_inner().after_revision;
        let state = self.state();
        let revision = state.apps.iter().map(|app| app.revision).max().unwrap_or_default();
        let apps = state.apps.iter().filter(|app| app.revision > after).cloned().collect();
        Ok(Response::new(rpc::AppsResponse { apps, revision }))
    }

    async fn put_app(&self, request: Request<rpc::PutAppRequest>) -> Answer<rpc::PutAppResponse> {
        let mut app = request.into_inner().app.unwrap_or_default();
        let mut state = self.state();
        let from = app.revision;
        app.revision = state.apps.iter().map(|app| app.revision).max().unwrap_or_default() + 1;
        if app.id == 0 {
            app.id = state.apps.len() as u32 + 1;
            state.apps.push(app.clone());
        } else if state.apps.iter().any(|known| known.id == app.id && known.revision != from) {
            let refusal = rpc::Refusal { code: peers::APP_CHANGED.to_owned(), ..rpc::Refusal::default() };
            return Ok(Response::new(rpc::PutAppResponse { app: None, refusal: Some(refusal) }));
        } else {
            state.apps.iter_mut().filter(|known| known.id == app.id).for_each(|known| *known = app.clone());
        }
        Ok(Response::new(rpc::PutAppResponse { app: Some(app), refusal: None }))
    }

    async fn put_key(&self, request: Request<rpc::PutKeyRequest>) -> Answer<rpc::PutKeyResponse> {
        let rpc::PutKeyRequest { app, hash, scopes, .. } = request.into_inner();
        self.state().keys.insert(hash.to_vec(), (app, scopes));
        Ok(Response::new(rpc::PutKeyResponse { refusal: None }))
    }

    async fn find_key(&self, request: Request<rpc::FindKeyRequest>) -> Answer<rpc::FindKeyResponse> {
        let found = self.state().keys.get(&request.into_inner().hash[..]).cloned();
        let (app, scopes) = found.clone().unwrap_or_default();
        Ok(Response::new(rpc::FindKeyResponse { found: found.is_some(), app, scopes }))
    }

    async fn load(&self, _: Request<rpc::LoadRequest>) -> Answer<rpc::LoadResponse> {
        Err(Status::unimplemented("a center never loads"))
    }

    async fn ack(&self, _: Request<rpc::AckRequest>) -> Answer<rpc::AckResponse> {
        Err(Status::unimplemented("a center never acks"))
    }

    async fn load_broadcasts(
        &self,
        _: Request<rpc::LoadBroadcastsRequest>,
    ) -> Answer<rpc::LoadBroadcastsResponse> {
        Err(Status::unimplemented("a center never loads"))
    }

    async fn broadcast_heads(
        &self,
        _: Request<rpc::BroadcastHeadsRequest>,
    ) -> Answer<rpc::BroadcastHeadsResponse> {
        Err(Status::unimplemented("a center never polls"))
    }
}

#[tonic::async_trait]
impl Register for Fakes {
    async fn look_up(&self, request: Request<rpc::LookUpRequest>) -> Answer<rpc::LookUpResponse> {
        let state = self.state();
        let results = request.into_inner().items.into_iter().map(|item| {
            if !state.online.contains(&item.uid) {
                return rpc::LookUpResult::default();
            }
            let presence = rpc::Presence::Online.into();
            rpc::LookUpResult { presence, room: 1, conn: u64::MAX, fence: 7, since_ms: 1 }
        });
        Ok(Response::new(rpc::LookUpResponse { results: results.collect() }))
    }

    async fn bind(&self, _: Request<rpc::BindRequest>) -> Answer<rpc::BindResponse> {
        Err(Status::unimplemented("a center never binds"))
    }

    async fn restore(&self, _: Request<rpc::RestoreRequest>) -> Answer<rpc::RestoreResponse> {
        Err(Status::unimplemented("a center has no sessions to restore"))
    }

    async fn settle(&self, _: Request<rpc::SettleRequest>) -> Answer<rpc::SettleResponse> {
        Err(Status::unimplemented("a center has no sessions to settle"))
    }

    async fn unbind(&self, _: Request<rpc::UnbindRequest>) -> Answer<rpc::UnbindResponse> {
        Err(Status::unimplemented("a center never unbinds"))
    }
}

#[tonic::async_trait]
impl Room for Fakes {
    async fn count_audience(
        &self,
        request: Request<rpc::CountAudienceRequest>,
    ) -> Answer<rpc::CountAudienceResponse> {
        let mut state = self.state();
        state.counted.push(request.into_inner());
        Ok(Response::new(rpc::CountAudienceResponse { bindings: state.audience }))
    }

    async fn deliver(&self, request: Request<rpc::DeliverRequest>) -> Answer<rpc::DeliverResponse> {
        let rpc::DeliverRequest { payloads, items } = request.into_inner();
        let results = vec![rpc::Delivery::Sent.into(); items.len()];
        let mut state = self.state();
        for item in items {
            let payload = item.payload.map(|index| payloads[index as usize].to_vec()).unwrap_or_default();
            state.delivered.push((item, payload));
        }
        Ok(Response::new(rpc::DeliverResponse { results }))
    }

    async fn broadcast(
        &self,
        request: Request<rpc::BroadcastNotice>,
    ) -> Answer<rpc::BroadcastNoticeResponse> {
        self.state().notices.push(request.into_inner());
        Ok(Response::new(rpc::BroadcastNoticeResponse {}))
    }

    async fn recall(&self, request: Request<rpc::RecallNotice>) -> Answer<rpc::RecallNoticeResponse> {
        let notice = request.into_inner();
        let notified = notice.uids.len().max(1) as u64;
        self.state().recalls.push(notice);
        Ok(Response::new(rpc::RecallNoticeResponse { notified }))
    }

    async fn progress(&self, request: Request<rpc::ProgressRequest>) -> Answer<rpc::ProgressResponse> {
        let ids = request.into_inner().ids.into_iter();
        let progress = ids
            .map(|id| rpc::Progress { id, targets: 5, sent: 4, acked: 3, pending: 2, ..Default::default() })
            .collect();
        Ok(Response::new(rpc::ProgressResponse { progress }))
    }

    async fn kick(&self, _: Request<rpc::KickRequest>) -> Answer<rpc::KickResponse> {
        Err(Status::unimplemented("a center kicks through the coordinator"))
    }

    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Answer<rpc::DrainResponse> {
        Err(Status::unimplemented("a center drains nobody"))
    }
}

#[tonic::async_trait]
impl Coordinator for Fakes {
    async fn kick(&self, request: Request<rpc::KickUsersRequest>) -> Answer<rpc::KickUsersResponse> {
        let state = self.state();
        let users = request.into_inner().users.into_iter();
        let was_online = users.map(|user| state.online.contains(&user.uid)).collect();
        Ok(Response::new(rpc::KickUsersResponse { was_online }))
    }

    async fn up(&self, _: Request<rpc::UpRequest>) -> Answer<rpc::UpResponse> {
        Err(Status::unimplemented("a center sends nothing up"))
    }

    async fn events(&self, _: Request<rpc::EventsRequest>) -> Answer<rpc::EventsResponse> {
        Err(Status::unimplemented("a center tells no events"))
    }
}
