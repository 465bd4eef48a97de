//! A cluster whose rooms are lists of users' places on the ring, and whose archive is a map.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cluster::{Cluster, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use flow::FlowMetrics;
use peers::{Limits, PeerMetrics};
use proto::internal::{
    self as rpc, Filter, Job, JobState,
    center_server::CenterServer,
    room_server::{Room, RoomServer},
    saver_server::SaverServer,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    config::{BroadcastConfig, Config},
    jobs::{Jobs, Reach, ring},
    metrics::Metrics,
    ops::Peers,
    testing::Fakes,
    under_way::UnderWay,
};

/// The wall clock when a test begins: 2026-11-21T06:00 UTC.
pub(super) const BEGIN_MS: u64 = 1_795_240_800_000;

/// One slice, as a room got it.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) at: Duration,
    pub(super) notice: rpc::BroadcastNotice,
    pub(super) users: u64,
}

/// A room.
#[derive(Clone)]
pub(super) struct FakeRoom(Arc<Mutex<RoomState>>);

pub(super) struct RoomState {
    began: Instant,
    pub(super) users: Vec<u32>,
    pub(super) got: Vec<Got>,
    /// What it tells of any broadcast besides what it has sent.
    pub(super) told: rpc::Progress,
}

impl FakeRoom {
    pub(super) fn state(&self) -> MutexGuard<'_, RoomState> {
        self.0.lock().unwrap()
    }
}

fn inside(filter: Option<&Filter>, place: u32) -> bool {
    let Some(filter) = filter else { return true };
    let below = if filter.hash_below == 0 { ring::RING } else { filter.hash_below };
    (filter.hash_from..below).contains(&u64::from(place))
}

/// All users of these tests have clocks of one hour east of Greenwich.
fn awake(filter: Option<&Filter>) -> bool {
    filter.and_then(|filter| filter.utc_offset_min).is_none_or(|offset| offset == 60)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Room for FakeRoom {
    async fn broadcast(
        &self,
        request: Request<rpc::BroadcastNotice>,
    ) -> Answer<rpc::BroadcastNoticeResponse> {
        let notice = request.into_inner();
        let mut state = self.state();
        let filter = notice.filter.as_ref();
        let users = match awake(filter) {
            true => state.users.iter().filter(|place| inside(filter, **place)).count() as u64,
            false => 0,
        };
        let at = state.began.elapsed();
        state.got.push(Got { at, notice, users });
        Ok(Response::new(rpc::BroadcastNoticeResponse {}))
    }

    async fn progress(&self, request: Request<rpc::ProgressRequest>) -> Answer<rpc::ProgressResponse> {
        let state = self.state();
        let of = |id: u64| {
            let sent = state.got.iter().filter(|got| got.notice.id == id).map(|got| got.users).sum();
            rpc::Progress { id, sent, ..state.told.clone() }
        };
        let progress = request.into_inner().ids.into_iter().map(of).collect();
        Ok(Response::new(rpc::ProgressResponse { progress, behind: false }))
    }

    async fn count_audience(
        &self,
        request: Request<rpc::CountAudienceRequest>,
    ) -> Answer<rpc::CountAudienceResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let below = if filter.hash_below == 0 { ring::RING } else { filter.hash_below };
        let share = (below - filter.hash_from) as f64 / ring::RING as f64;
        // As a real room: by the share of the ring.
        let bindings = match awake(Some(&filter)) {
            true => (self.state().users.len() as f64 * share) as u64,
            false => 0,
        };
        Ok(Response::new(rpc::CountAudienceResponse { bindings }))
    }

    async fn deliver(&self, _: Request<rpc::DeliverRequest>) -> Answer<rpc::DeliverResponse> {
        Err(Status::unimplemented("no deliveries here"))
    }

    async fn recall(&self, _: Request<rpc::RecallNotice>) -> Answer<rpc::RecallNoticeResponse> {
        Ok(Response::new(rpc::RecallNoticeResponse { notified: 1 }))
    }

    async fn kick(&self, _: Request<rpc::KickRequest>) -> Answer<rpc::KickResponse> {
        Err(Status::unimplemented("no kicks here"))
    }

    async fn drain(&self, _: Request<rpc::DrainRequest>) -> Answer<rpc::DrainResponse> {
        Err(Status::unimplemented("no drains here"))
    }
}

struct Silent;

#[tonic::async_trait]
impl rpc::center_server::Center for Silent {
    async fn relay(&self, _: Request<rpc::RelayRequest>) -> Answer<rpc::RelayResponse> {
        std::future::pending().await
    }

    async fn part_progress(&self, _: Request<rpc::PartProgressRequest>) -> Answer<rpc::PartProgressResponse> {
        std::future::pending().await
    }

    async fn stop(&self, _: Request<rpc::StopRequest>) -> Answer<rpc::StopResponse> {
        std::future::pending().await
    }

    async fn look(&self, _: Request<rpc::LookRequest>) -> Answer<rpc::LookResponse> {
        std::future::pending().await
    }
}

/// One center.
pub(super) struct Center {
    pub(super) jobs: Jobs,
    me: Arc<Me>,
    cancel: CancellationToken,
}

/// The cluster.
pub(super) struct Town {
    pub(super) fakes: Fakes,
    pub(super) centers: BTreeMap<u32, Center>,
    pub(super) rooms: BTreeMap<u32, FakeRoom>,
    discovery: Embedded,
    local: LocalServices,
    began: Instant,
    /// The wall clock of centers that are added goes so much faster.
    pub(super) haste: u64,
}

impl Town {
    pub(super) async fn new() -> Town {
        let town = Town {
            fakes: Fakes::default(),
            centers: BTreeMap::new(),
            rooms: BTreeMap::new(),
            discovery: Embedded::default(),
            local: LocalServices::default(),
            began: Instant::now(),
            haste: 1,
        };
        town.local.insert(NodeId(1), Routes::new(SaverServer::new(town.fakes.clone())));
        town.join(Role::Saver, 1).await;
        town
    }

    async fn join(&self, role: Role, id: u32) -> Arc<Me> {
        let me = Arc::new(Me::new(role, NodeId(id), Incarnation(1), "default", None));
        me.set_state(NodeState::Ready);
        self.cluster(&me).join().await.unwrap();
        me
    }

    fn cluster(&self, me: &Arc<Me>) -> Cluster {
        Cluster::new(Arc::new(self.discovery.clone()), self.local.clone(), Arc::clone(me))
    }

    pub(super) async fn add_room(&mut self, id: u32, users: usize, rng: &mut StdRng) {
        let users = (0..users).map(|_| rng.random()).collect();
        let state = RoomState { began: self.began, users, got: Vec::new(), told: Default::default() };
        let room = FakeRoom(Arc::new(Mutex::new(state)));
        self.local.insert(NodeId(id), Routes::new(RoomServer::new(room.clone())));
        std::mem::forget(self.join(Role::Room, id).await);
        self.rooms.insert(id, room);
    }

    pub(super) async fn add_center(&mut self, id: u32) {
        let me = Arc::new(Me::new(Role::Center, NodeId(id), Incarnation(1), "default", None));
        me.set_state(NodeState::Ready);
        let cluster = self.cluster(&me);
        let cancel = CancellationToken::new();
        let limits = Limits {
            rpc_timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(3),
            ..Config::default().peers
        };
        let metrics = PeerMetrics::new(&FlowMetrics::default());
        let peers = Peers::new(&cluster, limits, &metrics, &cancel, &TaskTracker::new());
        let (began, haste) = (self.began, self.haste);
        let reach = Reach {
            cluster: cluster.clone(),
            savers: peers.savers.clone(),
            rooms: peers.rooms.clone(),
            centers: peers.centers.clone(),
            metrics: Metrics::default(),
            clock: Arc::new(move || BEGIN_MS + began.elapsed().as_millis() as u64 * haste),
        };
        let (jobs, _) = Jobs::spawn(&reach, &BroadcastConfig::default(), &cancel, &cancel);
        self.local.insert(NodeId(id), crate::jobs::routes(&jobs, UnderWay::default()));
        cluster.join().await.unwrap();
        self.centers.insert(id, Center { jobs, me, cancel });
    }

    /// A center that is there and answers nothing, as while its machine stands still.
    pub(super) async fn add_silent_center(&mut self, id: u32) {
        self.local.insert(NodeId(id), Routes::new(CenterServer::new(Silent)));
        std::mem::forget(self.join(Role::Center, id).await);
    }

    /// The center is gone without a word, and everybody knows it after `noticed`.
    pub(super) async fn kill_center(&mut self, id: u32, noticed: Duration) {
        let center = self.centers.remove(&id).unwrap();
        center.cancel.cancel();
        self.local.remove(NodeId(id));
        tokio::time::sleep(noticed).await;
        self.cluster(&center.me).leave().await;
    }

    /// The center goes on, but nobody sees it any more, nor it itself.
    pub(super) async fn leave_center(&self, id: u32) {
        self.cluster(&self.centers[&id].me).leave().await;
    }

    /// Puts a job into the archive, as a center would have.
    pub(super) fn put(&self, job: Job) {
        self.fakes.state().jobs.put(job);
    }

    pub(super) fn job(&self, id: u64) -> Job {
        self.fakes.state().jobs.jobs[&id].clone()
    }

    /// Changes a job in the archive, as a center would.
    pub(super) fn change(&self, change: rpc::ChangeJobRequest) -> bool {
        let revision = self.job(change.id).revision;
        !self.fakes.state().jobs.change(rpc::ChangeJobRequest { app: 1, revision, ..change }).stale
    }

    /// Everything that rooms got of a job, in time.
    pub(super) fn got(&self, id: u64) -> Vec<Got> {
        let mut got: Vec<_> = self.rooms.values().flat_map(|room| room.state().got.clone()).collect();
        got.retain(|got| got.notice.id == id);
        got.sort_by_key(|got| got.at);
        got
    }

    /// Users that were sent a job in a span of time.
    pub(super) fn sent(&self, id: u64, span: std::ops::Range<Duration>) -> u64 {
        self.got(id).iter().filter(|got| span.contains(&got.at)).map(|got| got.users).sum()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the job is in a state; its own clock moves on.
    pub(super) async fn until(&self, id: u64, state: JobState, patience: Duration) {
        let wait = async {
            while self.job(id).state() != state {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(patience, wait).await.is_err() {
            let job = self.job(id);
            panic!("{:?} at {:x} after {:?}, not {state:?}", job.state(), job.released, self.elapsed());
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for center in self.centers.values() {
            center.cancel.cancel();
        }
    }
}

/// A running job of app 1.
pub(super) fn job(id: u64, users_per_second: u32) -> Job {
    Job {
        id,
        app: 1,
        payload: bytes::Bytes::from_static(b"hello"),
        filter: Some(Filter::default()),
        state: JobState::Running.into(),
        users_per_second,
        users_per_second_asked: users_per_second,
        accepted_ms: BEGIN_MS,
        starts_ms: BEGIN_MS,
        ttl_ms: 86_400_000,
        ..Default::default()
    }
}

/// Random numbers by a seed that a failure shows.
pub(super) fn rng() -> StdRng {
    let seed = match std::env::var("LONGWIRE_SEED") {
        Ok(seed) => seed.parse().expect("LONGWIRE_SEED is a number"),
        Err(_) => rand::rng().random(),
    };
    println!("LONGWIRE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The slices of a job cover the ring once, without gap and without overlap.
pub(super) fn assert_partition(released: &[rpc::ReleaseJobRequest], id: u64) {
    let mut place = 0;
    for slice in released.iter().filter(|slice| slice.id == id) {
        let filter = slice.filter.clone().unwrap_or_default();
        assert_eq!(filter.hash_from, place, "slices begin where the last ended");
        place = if filter.hash_below == 0 { ring::RING } else { filter.hash_below };
        assert!(place > filter.hash_from);
    }
    assert_eq!(place, ring::RING, "all of the ring");
}
