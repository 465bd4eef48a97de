//! A cluster in this process whose savers, registers, rooms and coordinators are plain maps, and a center in it.

pub(crate) mod jobs;
mod nodes;
mod saver;
pub(crate) mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cluster::{Cluster, Discovery, Embedded, Incarnation, LocalServices, Me, NodeId, NodeState, Role};
use flow::FlowMetrics;
use peers::PeerMetrics;
use proto::internal::{
    self as rpc, coordinator_server::CoordinatorServer, register_server::RegisterServer,
    room_server::RoomServer, saver_server::SaverServer,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Response, Status, service::Routes};

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
    /// Users whom each message was taken back from.
    pub(crate) recalled: BTreeMap<u64, BTreeSet<String>>,
    /// The room has not come as far as any place of the log; the places that it was asked for.
    pub(crate) behind: bool,
    pub(crate) places: Vec<(u32, u64, u64)>,
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
    me: Arc<Me>,
    _stop: tokio_util::sync::DropGuard,
}

impl TestCenter {
    pub(crate) async fn start(config: Config) -> TestCenter {
        let FakeCluster { fakes, discovery, local } = FakeCluster::start(&config).await;
        TestCenter::begin(9, config, fakes, discovery, local)
    }

    /// Another center of the same cluster, in the picture.
    pub(crate) async fn another(&self, id: u32) -> TestCenter {
        let config = Config::clone(&self.ops.config());
        let (fakes, discovery, local) = (self.fakes.clone(), self.discovery.clone(), self.local.clone());
        let center = TestCenter::begin(id, config, fakes, discovery, local);
        center.join().await;
        center
    }

    fn begin(id: u32, config: Config, fakes: Fakes, discovery: Embedded, local: LocalServices) -> TestCenter {
        let me = Arc::new(Me::new(Role::Center, NodeId(id), Incarnation(1), "default", None));
        let cluster = Cluster::new(Arc::new(discovery.clone()), local.clone(), Arc::clone(&me));
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
        TestCenter { ops, fakes, discovery, local, me, _stop: cancel.drop_guard() }
    }

    /// The center enters the picture.
    pub(crate) async fn join(&self) {
        self.local.insert(self.me.id(), self.ops.routes());
        self.me.set_state(NodeState::Ready);
        self.discovery.join(Arc::clone(&self.me)).await.unwrap();
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
