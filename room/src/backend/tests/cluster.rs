//! Simulated services.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use ::cluster::{Incarnation, Me, NodeId, NodeInfo, NodeState, Picture, Role};
use jsonwebtoken::{EncodingKey, Header, encode};
use peers::PeerError;
use proto::internal as rpc;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use wire::id::{AppKey, ConnId, Uid};

use crate::{
    backend::{Backend, BackendLimits, Identity, Services, build},
    event_loop::{AskQueues, Order, Thread, ask_queues},
    exchange::{BindAnswer, BindAsk, BindDone, BindingKey, GivenUp, HeldSession},
    metrics::RoomMetrics,
};

const SECRET: &[u8] = b"secret";

/// Register, uid and fence of a session that was told.
type ToldSession = (u32, String, u64);

#[derive(Debug, Default)]
pub(super) struct State {
    /// Names of the calls, in their order.
    pub(super) calls: Vec<&'static str>,
    /// How often each call fails from now on.
    failing: HashMap<&'static str, usize>,
    pub(super) fence: u64,
    pub(super) sessions: HashMap<String, u64>,
    pub(super) log: Vec<rpc::StoredBroadcast>,
    pub(super) head: u64,
    /// Uid, online, fence.
    pub(super) events: Vec<(String, bool, u64)>,
    pub(super) acks: Vec<rpc::AckItem>,
    pub(super) loads: Vec<rpc::LoadItem>,
    pub(super) cursor: Option<u64>,
    /// The savers do not reach their archive.
    pub(super) cursor_unknown: bool,
    /// Rounds in which registers were settled with, the latest of each.
    pub(super) settled: HashMap<u32, u64>,
    /// Sessions that were told, in batches: the room's life, then register, uid and fence of each.
    pub(super) told: Vec<(u64, Vec<ToldSession>)>,
    /// The round of every register.
    pub(super) round: u64,
    /// Users who have a newer session elsewhere.
    pub(super) newer: Vec<String>,
    /// Registers that hang.
    pub(super) hanging: Vec<u32>,
    pub(super) unbinds: Vec<rpc::UnbindItem>,
    lose_answer: bool,
    /// Apps are known, so that binds go together.
    pub(super) apps_at_hand: bool,
    pub(super) up: VecDeque<rpc::UpOutcome>,
    /// Calls of a saver take so long.
    pub(super) saver_takes: Duration,
    /// Calls of `bind` take so long.
    pub(super) bind_takes: Duration,
}

#[derive(Clone, Default)]
pub(super) struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail(&self, call: &'static str, times: usize) {
        self.state().failing.insert(call, times);
    }

    /// The next bind is done, but nobody hears of it.
    pub(super) fn lose_answer(&self) {
        self.state().lose_answer = true;
    }

    fn call(&self, call: &'static str) -> Result<MutexGuard<'_, State>, PeerError> {
        let mut state = self.state();
        state.calls.push(call);
        if let Some(left) = state.failing.get_mut(call).filter(|left| **left > 0) {
            *left -= 1;
            return Err(PeerError::NoNode(Role::Saver));
        }
        Ok(state)
    }
}

fn demo() -> Arc<rpc::App> {
    rpc::App { id: 7, key: "demo".into(), token_secret: SECRET.into(), ..rpc::App::default() }.into()
}

impl Services for Simulated {
    async fn app(&self, key: &str) -> Result<Option<Arc<rpc::App>>, PeerError> {
        drop(self.call("app")?);
        Ok((key == "demo").then(demo))
    }

    fn app_at_hand(&self, key: &str) -> Option<Arc<rpc::App>> {
        (key == "demo" && self.state().apps_at_hand).then(demo)
    }

    async fn bind(&self, item: rpc::BindItem) -> Result<u64, PeerError> {
        let takes = self.state().bind_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.call("bind")?;
        state.fence += 1;
        let fence = state.fence;
        state.sessions.insert(item.uid, fence);
        if std::mem::take(&mut state.lose_answer) {
            let detail = "no answer".into();
            return Err(PeerError::Unavailable { role: Role::Register, node: None, detail });
        }
        Ok(fence)
    }

    async fn unbind(&self, item: rpc::UnbindItem) -> Result<bool, PeerError> {
        let mut state = self.call("unbind")?;
        state.unbinds.push(item.clone());
        let same = state.sessions.get(&item.uid) == Some(&item.fence);
        if same {
            state.sessions.remove(&item.uid);
        }
        Ok(same)
    }

    async fn restore(
        &self,
        register: NodeId,
        request: rpc::RestoreRequest,
    ) -> Result<rpc::RestoreResponse, PeerError> {
        if self.state().hanging.contains(&register.0) {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        let lost = request.sessions.iter().enumerate();
        let lost = lost.filter(|(_, item)| state.newer.contains(&item.uid)).map(|(n, _)| n as u32).collect();
        for item in &request.sessions {
            state.sessions.insert(item.uid.clone(), item.fence);
        }
        if !request.sessions.is_empty() {
            let told = request.sessions.into_iter().map(|item| (register.0, item.uid, item.fence));
            state.told.push((request.incarnation, told.collect()));
        }
        Ok(rpc::RestoreResponse { round: state.round, lost })
    }

    async fn settle(&self, register: NodeId, request: rpc::SettleRequest) -> Result<bool, PeerError> {
        let mut state = self.state();
        state.settled.insert(register.0, request.round);
        Ok(request.round != state.round)
    }

    async fn load(&self, item: rpc::LoadItem) -> Result<rpc::LoadResult, PeerError> {
        let takes = self.state().saver_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.call("load")?;
        state.loads.push(item);
        let cursor = state.cursor.map(|bseq| rpc::BroadcastCursor { epoch: 1, bseq });
        let start = Some(rpc::Position { epoch: 3, seq: 4 });
        let cursor_unknown = state.cursor_unknown;
        Ok(rpc::LoadResult { start, through: 4, cursor, cursor_unknown, ..rpc::LoadResult::default() })
    }

    async fn ack(&self, item: rpc::AckItem) -> Result<(), PeerError> {
        let takes = self.state().saver_takes;
        tokio::time::sleep(takes).await;
        self.call("ack")?.acks.push(item);
        Ok(())
    }

    async fn heads(&self, apps: &[u32]) -> Result<Vec<rpc::BroadcastHead>, PeerError> {
        let state = self.call("heads")?;
        Ok(apps.iter().map(|app| rpc::BroadcastHead { app: *app, epoch: 1, head: state.head }).collect())
    }

    async fn log(
        &self,
        request: rpc::LoadBroadcastsRequest,
    ) -> Result<rpc::LoadBroadcastsResponse, PeerError> {
        let state = self.call("log")?;
        let most = request.max_messages as usize;
        let mut broadcasts: Vec<_> = state
            .log
            .iter()
            .filter(|stored| stored.bseq > request.after_bseq)
            .take(most + 1)
            .cloned()
            .collect();
        let more = broadcasts.len() > most;
        broadcasts.truncate(most);
        let last = broadcasts.last().map_or(0, |stored| stored.bseq);
        let through = if more { last } else { state.head.max(request.after_bseq) };
        Ok(rpc::LoadBroadcastsResponse {
            epoch: 1,
            broadcasts,
            through,
            more,
            head: state.head,
            refusal: None,
        })
    }

    async fn up(&self, _: rpc::UpItem) -> Result<rpc::UpResult, PeerError> {
        let outcome = self.call("up")?.up.pop_front().unwrap_or(rpc::UpOutcome::Taken);
        Ok(rpc::UpResult { outcome: outcome.into(), retry_after_ms: 70 })
    }

    async fn event(&self, event: rpc::StateEvent) -> Result<bool, PeerError> {
        self.call("event")?.events.push((event.uid, event.online, event.fence));
        Ok(true)
    }
}

/// The tokio side of a room with one simulated thread.
pub(super) struct Side {
    pub(super) services: Simulated,
    pub(super) backend: Arc<Backend<Simulated>>,
    pub(super) asks: AskQueues,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) given_up: GivenUp,
    pub(super) registers: watch::Sender<Arc<Picture>>,
    pub(super) me: Me,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    binding: u32,
}

impl Side {
    pub(super) fn new() -> Self {
        let services = Simulated::default();
        let (thread, orders) = Thread::simulated();
        let given_up = thread.status().given_up.clone();
        let (asks, streams) = ask_queues(4);
        let cancel = CancellationToken::new();
        let registers = watch::Sender::new(Arc::new(picture(1)));
        let me = Me::new(Role::Room, NodeId(4), Incarnation(9), "z", None);
        let (backend, works) = build(
            services.clone(),
            Identity { node: 4, info: me.subscribe() },
            BackendLimits::default(),
            vec![(thread, streams)],
            RoomMetrics::default(),
            registers.subscribe(),
            cancel.clone(),
        );
        let mut tasks = JoinSet::new();
        for work in works.keepers.into_iter().chain(works.streams) {
            tasks.spawn(work);
        }
        Self { services, backend, asks, orders, given_up, registers, me, cancel, tasks, binding: 0 }
    }

    pub(super) fn bind_ask(&mut self, uid: &str) -> BindAsk {
        self.binding += 1;
        BindAsk {
            binding: BindingKey { slot: self.binding, generation: 1 },
            conn: ConnId(5),
            app: AppKey::new("demo").unwrap(),
            uid: Uid::new(uid).unwrap(),
            token: token("demo", uid),
            tags: vec!["t".into()],
            device: audience::Device::default(),
            inbox: None,
            broadcasts: None,
        }
    }

    pub(super) async fn order(&mut self) -> Order {
        tokio::time::timeout(Duration::from_secs(60), self.orders.recv()).await.unwrap().unwrap()
    }

    pub(super) async fn bound(&mut self) -> BindAnswer {
        match self.order().await {
            Order::Bound(mut answers) => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Binds a user, so that its app is followed.
    pub(super) async fn bind(&mut self, uid: &str) -> BindDone {
        let ask = self.bind_ask(uid);
        self.asks.binds.send(vec![ask]).await.unwrap();
        self.bound().await.result.unwrap()
    }

    /// Lets everything that is under way come to its end.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    /// Answers a question for what is held, with no more to follow.
    pub(super) async fn held(&mut self, sessions: Vec<HeldSession>) {
        let Order::Held(0, _, reply) = self.order().await else { panic!("no question") };
        reply.send((sessions, None)).unwrap();
    }

    /// Answers the question which of the sessions that were told are over.
    pub(super) async fn over(&mut self, places: Vec<u32>) {
        let Order::Over(_, reply) = self.order().await else { panic!("no question") };
        reply.send(places).unwrap();
    }

    /// The thread ends; all that it asked for is done, and the tasks end.
    pub(super) async fn end(self) {
        let Self { asks, cancel, mut tasks, .. } = self;
        drop(asks);
        tokio::time::sleep(Duration::from_secs(40)).await;
        cancel.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }
}

pub(super) fn token(app: &str, uid: &str) -> String {
    let claims = serde_json::json!({"app": app, "sub": uid, "exp": 9_000_000_000u64});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// One register, in its given life.
pub(super) fn picture(life: u64) -> Picture {
    registers(&[(2, life)])
}

/// Registers in their lives.
pub(super) fn registers(lives: &[(u32, u64)]) -> Picture {
    let register = |(id, life): &(u32, u64)| NodeInfo {
        incarnation: Incarnation(*life),
        state: NodeState::Ready,
        ..NodeInfo::new(Role::Register, NodeId(*id))
    };
    Picture::new(lives.iter().map(|(_, life)| life).sum(), lives.iter().map(register).collect())
}
