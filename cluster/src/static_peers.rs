//! Discovery from a fixed list of peers: membership never changes, state is asked of each peer every second.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use proto::internal::{self as rpc, node_client::NodeClient};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    Discovery, DiscoveryError, Incarnation, Load, MAX_NODE_ID, Me, NodeId, NodeInfo, NodeState, Picture,
    Role, Tls, Transport,
};

/// How often each peer is asked: a drained or new room is known to dispatchers within this time.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// An answer that takes longer counts as none.
const POLL_TIMEOUT: Duration = Duration::from_millis(900);
/// So many unanswered polls in a row mean "down": a pause of two seconds (a stalled disk) is not a death.
const MISSES_UNTIL_DOWN: u32 = 3;

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
    /// Asks these peers until `cancel`, over TLS if `tls` is there.
    ///
    /// # Errors
    /// When an address is not `host:port`.
    pub fn start(
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
    async fn poll(&self) {
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let answers =
                join_all(self.peers.iter().map(|(peer, transport)| ask(peer, transport.clone()))).await;
            self.change(|slots| {
                for (slot, answer) in slots.iter_mut().zip(answers) {
                    slot.take(answer);
                }
            });
        }
    }

    /// Changes the slots and publishes a new picture if that changed anything.
    fn change(&self, change: impl FnOnce(&mut Vec<Slot>)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.1);
        let nodes: Vec<_> = state.1.iter().map(|s| s.info.clone()).collect();
        let picture = Picture::new(state.0 + 1, nodes);
        if picture.nodes() != self.picture.borrow().nodes() {
            state.0 += 1;
            self.picture.send_replace(Arc::new(picture));
        }
    }
}

impl Slot {
    fn take(&mut self, answer: Option<NodeInfo>) {
        match answer {
            Some(info) => {
                if self.info.state != info.state {
                    info!(role = %info.role, id = %info.id, state = ?info.state, "peer");
                }
                *self = Slot { info, misses: 0 };
            }
            None => {
                self.misses += 1;
                if self.misses == MISSES_UNTIL_DOWN && self.info.state != NodeState::Starting {
                    warn!(role = %self.info.role, id = %self.info.id, "peer does not answer: taken as down");
                    self.info.state = NodeState::Down;
                }
            }
        }
    }
}

async fn ask(peer: &Peer, transport: Transport) -> Option<NodeInfo> {
    let mut client = NodeClient::new(transport);
    let answer = tokio::time::timeout(POLL_TIMEOUT, client.status(rpc::StatusRequest {})).await.ok()?;
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
}
