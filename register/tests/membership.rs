//! Registers that come, go and lapse, over a discovery that follows a script.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{sync::Arc, time::Duration};

use cluster::{
    Cluster, Discovery, DiscoveryError, Incarnation, LocalServices, Me, NodeId, NodeInfo, NodeState, Picture,
    Role, rendezvous,
};
use futures::future::BoxFuture;
use peers::{Limits, Registers};
use proto::internal::{self as rpc, BindItem, Presence, RestoreItem, UnbindItem};
use register::{Config, Register};
use service::{Metrics, Node, NodeSettings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What one node is shown.
#[derive(Clone)]
struct Scripted {
    picture: watch::Sender<Arc<Picture>>,
    lapses: watch::Sender<u64>,
}

impl Scripted {
    fn new() -> Scripted {
        Scripted { picture: watch::Sender::default(), lapses: watch::Sender::default() }
    }

    fn show(&self, nodes: &[NodeInfo]) {
        let revision = self.picture.borrow().revision() + 1;
        self.picture.send_replace(Arc::new(Picture::new(revision, nodes.to_vec())));
    }
}

impl Discovery for Scripted {
    fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.picture.subscribe()
    }
    fn join(&self, _: Arc<Me>) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async { Ok(()) })
    }
    fn lapses(&self) -> watch::Receiver<u64> {
        self.lapses.subscribe()
    }
    fn leave<'a>(&'a self, _: &'a Me) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

fn node(role: Role, id: u32, joined: u64) -> NodeInfo {
    NodeInfo {
        incarnation: Incarnation(joined),
        joined,
        state: NodeState::Ready,
        ..NodeInfo::new(role, NodeId(id))
    }
}

/// Registers 1 and 2, rooms 11 and 12 that the test plays, and somebody who asks.
struct Town {
    one: Scripted,
    two: Scripted,
    asker: Scripted,
    registers: Registers,
    nodes: Vec<Node<Register>>,
    _data: tempfile::TempDir,
}

impl Town {
    async fn start() -> Town {
        let (one, two, asker) = (Scripted::new(), Scripted::new(), Scripted::new());
        let local = LocalServices::default();
        let data = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for (id, discovery) in [(1, &one), (2, &two)] {
            Incarnation::next(data.path(), &format!("register-{id}")).unwrap();
            let settings = NodeSettings {
                id: Some(id),
                zone: "z".into(),
                data: data.path().into(),
                drain_deadline: Duration::from_secs(5),
            };
            let start = Node::<Register>::start_local(
                &settings,
                Config::default(),
                Arc::new(discovery.clone()),
                local.clone(),
                Metrics::default(),
            );
            nodes.push(start.await.unwrap());
        }
        let me = Arc::new(Me::new(Role::Center, NodeId(99), Incarnation(1), "z", None));
        let cluster = Cluster::new(Arc::new(asker.clone()), local, me);
        let registers = Registers::new(&cluster, Limits::default(), CancellationToken::new());
        let town = Town { one, two, asker, registers, nodes, _data: data };
        town.show(&Town::all()).await;
        town
    }

    fn all() -> Vec<NodeInfo> {
        let registers = [node(Role::Register, 1, 10), node(Role::Register, 2, 20)];
        registers.into_iter().chain(Town::rooms()).collect()
    }

    fn rooms() -> [NodeInfo; 2] {
        [node(Role::Room, 11, 5), node(Role::Room, 12, 6)]
    }

    /// Everybody sees the same.
    async fn show(&self, nodes: &[NodeInfo]) {
        for discovery in [&self.one, &self.two, &self.asker] {
            discovery.show(nodes);
        }
        settle().await;
    }

    /// A room says to a register that it has told everything; whether it is to tell again.
    async fn told(&self, register: u32, room: u32, sessions: Vec<RestoreItem>) -> (Vec<u32>, bool) {
        let incarnation = u64::from(room - 6);
        let request = rpc::RestoreRequest { room, incarnation, sessions };
        let told = self.registers.restore(NodeId(register), request).await.unwrap();
        let members = peers::membership(&self.asker.picture.borrow());
        let settle = rpc::SettleRequest { room, incarnation, members, round: told.round };
        (told.lost, self.registers.settle(NodeId(register), settle).await.unwrap())
    }

    async fn bind(&self, uid: &str, room: u32, conn: u64) -> u64 {
        let incarnation = u64::from(room - 6);
        let item = BindItem { app: 1, uid: uid.into(), room, incarnation, conn, since_ms: 5 };
        self.registers.bind(item).await.unwrap()
    }

    async fn presence(&self, uid: &str) -> Presence {
        self.registers.look_up(1_u32, uid).await.unwrap().presence()
    }

    async fn end(self) {
        for node in self.nodes {
            node.drain(Duration::from_secs(1)).await;
        }
    }
}

/// Lets tasks run that a change sets off; a sweep over the store yields 256 times.
async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

fn session(uid: &str, conn: u64, fence: u64) -> RestoreItem {
    RestoreItem { app: 1, uid: uid.into(), conn, fence, since_ms: 5 }
}

/// A user whom this register owns as long as both are there.
fn user_of(register: u32) -> String {
    let all = Picture::new(1, Town::all());
    let owned = |uid: &String| {
        all.owner(Role::Register, rendezvous::user_key(1, uid)).is_some_and(|owner| owner.id.0 == register)
    };
    (0..).map(|n| format!("u{n}")).find(owned).unwrap()
}

/// Both rooms tell both registers what they have: nothing.
async fn settled() -> Town {
    let town = Town::start().await;
    for register in [1, 2] {
        for room in [11, 12] {
            assert_eq!(town.told(register, room, Vec::new()).await, (Vec::new(), false));
        }
    }
    assert_eq!(town.presence("nobody").await, Presence::Offline);
    town
}

#[tokio::test]
async fn the_heir_of_a_register_says_of_nobody_that_he_is_offline_until_the_rooms_have_told() {
    let town = settled().await;
    let (alice, bob) = (user_of(2), user_of(1));
    let fence = town.bind(&alice, 11, 10).await;
    town.bind(&bob, 12, 20).await;
    let one = Town::all().into_iter().filter(|node| node.id.0 != 2).collect::<Vec<_>>();
    town.show(&one).await;
    assert_eq!(town.presence(&alice).await, Presence::Rebuilding);
    assert_eq!(town.presence(&bob).await, Presence::Online, "its own users are as they were");
    assert_eq!(town.told(1, 11, vec![session(&alice, 10, fence)]).await, (vec![], false));
    let found = town.registers.look_up(1_u32, &alice).await.unwrap();
    assert_eq!((found.presence(), found.room, found.conn, found.fence), (Presence::Online, 11, 10, fence));
    assert_eq!(town.presence("nobody").await, Presence::Rebuilding, "one room has yet to tell");
    assert!(!town.told(1, 12, Vec::new()).await.1);
    assert_eq!(town.presence("nobody").await, Presence::Offline);
    let own = UnbindItem { app: 1, uid: alice, fence, ..UnbindItem::default() };
    assert!(town.registers.unbind(own).await.unwrap(), "the fence is the one that it has always had");
    town.end().await;
}

/// Alice was in room 11; her register died; she came back in room 12 before room 11 told the heir of her. The heir had been
/// started earlier and drew lower fences: it took her old session for the newer one.
#[tokio::test]
async fn a_session_that_the_heir_never_knew_is_ended_when_it_is_told() {
    let town = settled().await;
    let alice = user_of(2);
    let old = town.bind(&alice, 11, 10).await;
    let one = Town::all().into_iter().filter(|node| node.id.0 != 2).collect::<Vec<_>>();
    town.show(&one).await;
    let new = town.bind(&alice, 12, 20).await;
    assert!(new > old);
    assert_eq!(town.told(1, 11, vec![session(&alice, 10, old)]).await, (vec![0], false));
    let found = town.registers.look_up(1_u32, &alice).await.unwrap();
    assert_eq!((found.room, found.fence), (12, new));
    town.end().await;
}

#[tokio::test]
async fn a_user_binds_at_the_owner_and_nowhere_else() {
    let town = settled().await;
    let alice = user_of(2);
    // The room's picture lags: it believes that register 1 is the only one.
    let one = Town::all().into_iter().filter(|node| node.id.0 != 2).collect::<Vec<_>>();
    town.asker.show(&one);
    settle().await;
    let item = BindItem { app: 1, uid: alice.clone(), room: 11, incarnation: 5, conn: 1, since_ms: 5 };
    let early = tokio::spawn({
        let registers = town.registers.clone();
        async move { registers.bind(item).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!early.is_finished(), "refused, and tried again");
    assert_eq!(town.presence(&alice).await, Presence::Rebuilding, "it is not this register's to say");
    town.asker.show(&Town::all());
    early.await.unwrap().unwrap();
    assert_eq!(town.presence(&alice).await, Presence::Online);
    town.end().await;
}

/// A register that was stopped for longer than its lease: its users have moved on, and it does not know that yet.
#[tokio::test]
async fn a_lapse_clears_all_and_a_zombie_says_nothing_and_spoils_nothing() {
    let town = settled().await;
    let alice = user_of(1);
    let old = town.bind(&alice, 11, 10).await;
    // The asker still sends there what the register's own discovery says is not its own any more.
    let gone: Vec<_> = Town::all().into_iter().filter(|node| node.id.0 != 1).collect();
    town.one.show(&gone);
    settle().await;
    assert_eq!(town.presence(&alice).await, Presence::Rebuilding, "alice may be anywhere by now");
    town.one.lapses.send_replace(1);
    settle().await;
    assert_eq!(town.presence(&alice).await, Presence::Rebuilding);

    // It is back under its id; alice has bound in room 12, at the heir, meanwhile.
    let mut back = Town::all();
    (back[0].joined, back[0].incarnation) = (30, Incarnation(10));
    town.two.show(&gone);
    settle().await;
    let two = Picture::new(1, gone.clone());
    assert!(two.owner(Role::Register, 1).is_some_and(|owner| owner.id.0 == 2));
    town.show(&back).await;
    let newer = old + (5 << 32);
    assert_eq!(town.told(1, 12, vec![session(&alice, 20, newer)]).await, (vec![], false));
    assert_eq!(town.presence("nobody-of-1").await, Presence::Rebuilding);
    assert_eq!(town.told(1, 11, vec![session(&alice, 10, old)]).await, (vec![0], false));
    let found = town.registers.look_up(1_u32, &alice).await.unwrap();
    assert_eq!((found.room, found.fence), (12, newer));
    assert!(town.bind(&alice, 11, 11).await > newer);
    town.end().await;
}

#[tokio::test]
async fn a_room_that_leaves_takes_its_sessions_with_it_but_not_those_of_its_next_life() {
    let town = settled().await;
    let users = [user_of(1), user_of(2)];
    for uid in &users {
        town.bind(uid, 11, 10).await;
    }
    // It lapses and tells all again in its new life, before the registers have seen that the old one is gone.
    for (register, uid) in [(1, &users[0]), (2, &users[1])] {
        let request =
            rpc::RestoreRequest { room: 11, incarnation: 40, sessions: vec![session(uid, 10, 30 << 32)] };
        town.registers.restore(NodeId(register), request).await.unwrap();
    }
    let without: Vec<_> = Town::all().into_iter().filter(|node| node.id.0 != 11).collect();
    town.show(&without).await;
    for uid in &users {
        assert_eq!(town.presence(uid).await, Presence::Online);
    }
    town.show(&without.iter().cloned().chain([node(Role::Room, 11, 40)]).collect::<Vec<_>>()).await;
    town.show(&without).await;
    for uid in &users {
        assert_eq!(town.presence(uid).await, Presence::Offline);
    }
    town.end().await;
}
