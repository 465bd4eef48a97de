//! Discovery from a fixed list of peers: membership never changes, and each peer is asked to tell when its state does.

mod pace;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proto::internal::{self as rpc, node_client::NodeClient};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    Discovery, DiscoveryError, Incarnation, Load, MAX_NODE_ID, Me, NodeId, NodeInfo, NodeState, Picture,
    Role, Tls, Transport,
};

/// An answer that takes so much longer than the peer was to wait counts as none. A process that is dead refuses at once, so this is about those that are slow: an
/// overloaded machine that takes its nodes for dead has them told to each other anew, on top of its load.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// So many unanswered polls in a row mean "down": a pause of two seconds (a stalled disk) is not a death.
const MISSES_UNTIL_DOWN: u32 = 3;
/// How full the rooms are changes all the time, and is published at most so often.
const LOADS_INTERVAL: Duration = Duration::from_secs(1);

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its service.
    pub role: Role,
    /// Its number, unique in the whole list.
    pub id: NodeId,
    /// Address of its gRPC server, `host:port`.
    pub rpc: String,
}

/// A picture made of a list and of what the peers answer. Clones share it.
#[derive(Clone)]
pub struct StaticPeers {
    shared: Arc<Shared>,
}

struct Shared {
    /// What this node is.
    me: Role,
    peers: Vec<(Peer, Transport)>,
    /// The present nodes, in the order of `peers`, and the picture's revision.
    state: Mutex<(u64, Vec<Slot>)>,
    picture: watch::Sender<Arc<Picture>>,
}

#[derive(Clone)]
struct Slot {
    info: NodeInfo,
    misses: u32,
}

impl StaticPeers {
    /// Asks these peers until `cancel`, over TLS if `tls` is there, on behalf of a node of the role `me`.
    ///
    /// # Errors
    /// When an address is not `host:port`.
    pub fn start(
        me: Role,
        peers: Vec<Peer>,
        tls: Option<&Tls>,
        cancel: CancellationToken,
    ) -> Result<Self, tonic::transport::Error> {
        let slots: Vec<_> = peers.iter().map(|p| Slot { info: unknown(p), misses: 0 }).collect();
        let picture = Picture::new(1, slots.iter().map(|s| s.info.clone()).collect());
        let peers = peers
            .into_iter()
            .map(|p| Transport::connect(&p.rpc, p.role, tls).map(|t| (p, t)))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            me,
            peers,
            state: Mutex::new((1, slots)),
            picture: watch::Sender::new(Arc::new(picture)),
        });
        let poller = shared.clone();
        tokio::spawn(async move { cancel.run_until_cancelled(poller.poll()).await });
        Ok(Self { shared })
    }
}

/// Why a list cannot be right: ids are part of message ids, so no two nodes may have the same one, whatever they do.
///
/// # Errors
/// Says what is wrong with the first entry that is.
pub fn check_peers(peers: &[Peer]) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for peer in peers {
        if !(1..=MAX_NODE_ID).contains(&peer.id.0) {
            return Err(format!("{} {}: ids are 1 to {MAX_NODE_ID}", peer.role, peer.id));
        }
        if let Some(other) = seen.insert(peer.id, peer.role) {
            return Err(format!(
                "id {} is given to a {other} and to a {}: each node needs its own",
                peer.id, peer.role
            ));
        }
    }
    Ok(())
}

/// A peer of which nothing is known but that it is on the list.
fn unknown(peer: &Peer) -> NodeInfo {
    NodeInfo { rpc: Some(peer.rpc.clone()), ..NodeInfo::new(peer.role, peer.id) }
}

impl Shared {
    /// Asks each peer by itself. How full rooms are is told on only where devices are sent by it.
    async fn poll(&self) {
        let mut asks: FuturesUnordered<_> = (0..self.peers.len()).map(|at| self.ask_from(at)).collect();
        let loads = async {
            loop {
                sleep(LOADS_INTERVAL).await;
                self.publish();
            }
        };
        let asks = async { while asks.next().await.is_some() {} };
        if matches!(self.me, Role::Dispatcher | Role::Center) {
            futures::future::join(asks, loads).await;
        } else {
            asks.await;
        }
    }

    /// Asks one peer again and again. One that serves answers when it has news, or has had none for a while.
    async fn ask_from(&self, at: usize) {
        let (peer, transport) = &self.peers[at];
        let (wait, by_load) = (pace::wait(self.me, peer.role), pace::by_load(self.me, peer.role));
        let mut known: Option<NodeInfo> = None;
        loop {
            // Jitter keeps those who started together from asking together for ever.
            let jitter = 0.9 + 0.2 * rand::random::<f64>();
            let mut begin = Instant::now();
            let (held, request) = match &known {
                Some(info) if info.state == NodeState::Ready => {
                    let held = wait.mul_f64(jitter);
                    let request = rpc::StatusRequest {
                        wait_ms: u32::try_from(held.as_millis()).unwrap_or(u32::MAX),
                        known: rpc::NodeState::Ready.into(),
                        connections: by_load.then_some(info.load.connections),
                    };
                    (held, request)
                }
                _ => (Duration::ZERO, rpc::StatusRequest::default()),
            };
            let answer = ask(peer, transport.clone(), request, held + POLL_TIMEOUT).await;
            let next = match &answer {
                // One that is older than such questions answers them at once: it is asked as seldom all the same.
                Some(info) if known.as_ref().is_some_and(|known| known == info) => held.max(pace::SHORTEST),
                Some(_) => pace::SHORTEST.mul_f64(jitter),
                None => {
                    if !held.is_zero() {
                        // The connection has broken: whether it was only that shows in a moment.
                        begin = Instant::now();
                    }
                    pace::SHORTEST.mul_f64(jitter)
                }
            };
            known.clone_from(&answer);
            let changed = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.1[at].take(answer)
            };
            if changed {
                self.publish();
            }
            sleep_until(begin + next).await;
        }
    }

    /// Publishes a new picture if the slots are not those of the present one.
    fn publish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes: Vec<_> = state.1.iter().map(|s| s.info.clone()).collect();
        let picture = Picture::new(state.0 + 1, nodes);
        if picture.nodes() != self.picture.borrow().nodes() {
            state.0 += 1;
            self.picture.send_replace(Arc::new(picture));
        }
    }
}

impl Slot {
    /// Notes an answer; whether anything but the load is new.
    fn take(&mut self, answer: Option<NodeInfo>) -> bool {
        match answer {
            Some(info) => {
                if self.info.state != info.state {
                    info!(role = %info.role, id = %info.id, state = ?info.state, "peer");
                }
                self.misses = 0;
                let load = info.load;
                let before = std::mem::replace(&mut self.info, info);
                self.info != NodeInfo { load, ..before }
            }
            None => {
                self.misses += 1;
                let down = self.misses == MISSES_UNTIL_DOWN && self.info.state != NodeState::Starting;
                if down {
                    warn!(role = %self.info.role, id = %self.info.id, "peer does not answer: taken as down");
                    self.info.state = NodeState::Down;
                }
                down
            }
        }
    }
}

async fn ask(
    peer: &Peer,
    transport: Transport,
    request: rpc::StatusRequest,
    within: Duration,
) -> Option<NodeInfo> {
    let mut client = NodeClient::new(transport);
    let answer = tokio::time::timeout(within, client.status(request)).await.ok()?;
    let status = answer
        .inspect_err(|e| debug!(role = %peer.role, id = %peer.id, error = %e, "poll"))
        .ok()?
        .into_inner();
    if status.role != peer.role.as_str() || status.id != peer.id.0 {
        warn!(
            address = %peer.rpc,
            "listed as {} {} but answers as {} {}: correct discovery.peers", peer.role, peer.id, status.role, status.id
        );
        return None;
    }
    let state = match status.state() {
        rpc::NodeState::Starting => NodeState::Starting,
        rpc::NodeState::Ready => NodeState::Ready,
        rpc::NodeState::Draining => NodeState::Draining,
    };
    Some(NodeInfo {
        incarnation: Incarnation(status.incarnation),
        zone: status.zone,
        state,
        rpc: Some(peer.rpc.clone()),
        endpoints: status.endpoints,
        load: Load { connections: status.connections, capacity: status.capacity },
        ..NodeInfo::new(peer.role, peer.id)
    })
}

impl Discovery for StaticPeers {
    fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.shared.picture.subscribe()
    }

    /// Checks that the node is listed. Its state needs no publishing: the peers ask for it.
    fn join(&self, me: Arc<Me>) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let listed = self.shared.peers.iter().any(|(p, _)| p.role == me.role() && p.id == me.id());
            listed.then_some(()).ok_or(DiscoveryError::NotListed { role: me.role(), id: me.id() })
        })
    }

    fn leave<'a>(&'a self, _me: &'a Me) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room and a saver that shared an id would have made the same message ids.
    #[test]
    fn an_id_belongs_to_one_node_whatever_its_role() {
        let peer = |role, id| Peer { role, id: NodeId(id), rpc: "h:1".to_owned() };
        check_peers(&[peer(Role::Room, 1), peer(Role::Saver, 2)]).unwrap();
        let error = check_peers(&[peer(Role::Room, 1), peer(Role::Saver, 1)]).unwrap_err();
        assert!(error.starts_with("id 1 is given to a room and to a saver"), "{error}");
        assert!(check_peers(&[peer(Role::Room, 0)]).is_err());
        assert!(check_peers(&[peer(Role::Room, 1024)]).is_err());
    }

    /// A picture a second, for each room that got a device, kept every node of a large cluster busy.
    #[test]
    fn load_alone_is_no_news() {
        let info = |state, connections| NodeInfo {
            state,
            load: Load { connections, capacity: 10 },
            ..NodeInfo::new(Role::Room, NodeId(1))
        };
        let mut slot = Slot { info: info(NodeState::Starting, 0), misses: 0 };
        assert!(slot.take(Some(info(NodeState::Ready, 1))));
        assert!(!slot.take(Some(info(NodeState::Ready, 2))));
        assert_eq!(slot.info.load.connections, 2);
        assert!(!slot.take(None) && !slot.take(None));
        assert!(slot.take(None) && slot.info.state == NodeState::Down);
        assert!(!slot.take(None));
        assert!(slot.take(Some(info(NodeState::Ready, 2))));
    }
}
