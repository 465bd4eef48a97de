//! The lines to all nodes of a role, kept in step with the picture of the cluster.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use cluster::{Cluster, NodeId, NodeInfo, NodeState, Picture, Role, rendezvous};
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Limits, PeerMetrics,
    wire::{Line, Wire},
};

/// A picture and the lines that go with it, published together: an owner that is found is one that can be called.
pub(crate) struct View<L> {
    pub(crate) picture: Arc<Picture>,
    lines: HashMap<NodeId, Arc<L>>,
    /// All of the role, in whatever state: so that whose a key is does not cost a look at every node of the cluster.
    members: Box<[NodeId]>,
}

/// Which node a call goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// The owner of the key, up or down: it alone has what belongs to the key, unless it is a saver on shared stores.
    Owner(u64),
    /// Whoever serves; the key spreads the load and keeps a user with one node, later attempts go to others.
    Any(u64),
    /// This one.
    Node(NodeId),
}

impl<L: Line> View<L> {
    /// The node that an attempt goes to.
    pub(crate) fn choose(&self, to: To, attempt: u32) -> Option<(NodeId, Arc<L>)> {
        let node = match to {
            To::Owner(key) => self.owner(key, attempt)?,
            To::Any(key) => self.any(key, attempt)?,
            To::Node(node) => node,
        };
        Some((node, Arc::clone(self.lines.get(&node)?)))
    }

    /// The owner of a key. While it does not answer, every other attempt goes to the next best of the ready nodes, if that
    /// one has said that it serves any key.
    pub(crate) fn owner(&self, key: u64, attempt: u32) -> Option<NodeId> {
        let owner = *self.members.iter().max_by_key(|id| rendezvous::score(key, **id))?;
        if attempt.is_multiple_of(2) {
            return Some(owner);
        }
        let serves = |n: &NodeId| self.lines.get(n).is_some_and(|line| line.serves_any());
        let others = self.picture.of(L::ROLE).filter(|n| n.state == NodeState::Ready && n.id != owner);
        others.map(|n| n.id).filter(serves).max_by_key(|n| rendezvous::score(key, *n)).or(Some(owner))
    }

    /// The line to a node.
    pub(crate) fn line(&self, node: NodeId) -> Option<Arc<L>> {
        self.lines.get(&node).cloned()
    }

    fn any(&self, key: u64, attempt: u32) -> Option<NodeId> {
        let ready = self.picture.of(L::ROLE).filter(|n| n.state == NodeState::Ready);
        let mut nodes: Vec<_> = ready.map(|n| n.id).collect();
        if nodes.is_empty() {
            nodes.extend(self.picture.serving(L::ROLE).map(|n| n.id));
        }
        if nodes.is_empty() {
            // Perhaps the picture is late.
            nodes.extend(self.picture.of(L::ROLE).map(|n| n.id));
        }
        nodes.sort_by_key(|n| std::cmp::Reverse(rendezvous::score(key, *n)));
        let turn = (attempt as usize).checked_rem(nodes.len())?;
        nodes.get(turn).copied()
    }
}

/// The lines to all nodes of `L`'s role. Clones share them.
pub(crate) struct Links<L> {
    inner: Arc<Inner<L>>,
}

struct Inner<L> {
    me: NodeId,
    view: ArcSwap<View<L>>,
    /// Told whenever there is another view.
    changed: Notify,
    limits: Limits,
    metrics: PeerMetrics,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl<L> Clone for Links<L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<L: Line> Links<L> {
    /// Opens lines to the nodes there are, and follows the picture until `cancel`.
    pub(crate) fn new(
        cluster: &Cluster,
        limits: Limits,
        metrics: &PeerMetrics,
        cancel: CancellationToken,
    ) -> Self {
        let mut picture = cluster.picture();
        let now = picture.borrow_and_update().clone();
        let mut keeper = Keeper::<L> {
            cluster: cluster.clone(),
            limits,
            metrics: metrics.clone(),
            cancel: cancel.clone(),
            open: HashMap::new(),
            leaving: FuturesUnordered::new(),
        };
        let view = ArcSwap::from_pointee(keeper.view(now));
        let tasks = TaskTracker::new();
        let inner = Arc::new(Inner {
            me: cluster.me().id(),
            view,
            changed: Notify::new(),
            limits,
            metrics: metrics.clone(),
            cancel,
            tasks,
        });
        inner.tasks.spawn(keeper.follow(picture, Arc::clone(&inner)));
        inner.tasks.close();
        Self { inner }
    }

    pub(crate) fn view(&self) -> Arc<View<L>> {
        self.inner.view.load_full()
    }

    /// A key that spreads nodes over peers of which any will do; each node keeps to one.
    pub(crate) fn spread(&self) -> To {
        To::Any(rendezvous::word_key(self.inner.me.0, "node"))
    }

    /// Ends when the call would go to another node than it would have when this was called.
    pub(crate) async fn moved(&self, to: To) {
        let now = || self.view().choose(to, 0).map(|(node, _)| node);
        let before = now();
        loop {
            let mut changed = std::pin::pin!(self.inner.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if now() != before {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn metrics(&self) -> &PeerMetrics {
        &self.inner.metrics
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.inner.cancel
    }

    /// Waits until all tasks have ended; they do when the token given at construction is cancelled.
    pub(crate) async fn closed(&self) {
        self.inner.tasks.wait().await;
    }
}

/// An open line and what ends it.
struct Open<L> {
    rpc: Option<String>,
    line: Arc<L>,
    cancel: CancellationToken,
    gone: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// The task that opens and closes lines, and owns their tasks.
struct Keeper<L> {
    cluster: Cluster,
    limits: Limits,
    metrics: PeerMetrics,
    cancel: CancellationToken,
    open: HashMap<NodeId, Open<L>>,
    leaving: FuturesUnordered<JoinHandle<()>>,
}

impl<L: Line> Keeper<L> {
    async fn follow(mut self, mut picture: watch::Receiver<Arc<Picture>>, inner: Arc<Inner<L>>) {
        let cancel = self.cancel.clone();
        let mut frozen = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = self.leaving.next(), if !self.leaving.is_empty() => {}
                changed = picture.changed(), if !frozen => match changed {
                    Ok(()) => {
                        let now = picture.borrow_and_update().clone();
                        inner.view.store(Arc::new(self.view(now)));
                        inner.changed.notify_waiters();
                    }
                    // Discovery has gone away: the last picture stays.
                    Err(_) => frozen = true,
                },
            }
        }
        let tasks = self.open.into_values().flat_map(|open| open.tasks);
        join_all(tasks.chain(self.leaving)).await;
    }

    /// Opens and closes lines until they are those of the picture. What waits for a node that has left is answered
    /// at once, so that its callers can turn to the new owner.
    fn view(&mut self, picture: Arc<Picture>) -> View<L> {
        let gone: Vec<_> = self
            .open
            .iter()
            .filter(|(id, open)| picture.node(L::ROLE, **id).is_none_or(|now| now.rpc != open.rpc))
            .map(|(id, _)| *id)
            .collect();
        for open in gone.into_iter().filter_map(|id| self.open.remove(&id)) {
            open.cancel.cancel();
            open.gone.cancel();
            self.leaving.extend(open.tasks);
        }
        for node in picture.of(L::ROLE) {
            if self.open.contains_key(&node.id) {
                continue;
            }
            match self.cluster.transport(node) {
                Ok(transport) => {
                    let cancel = self.cancel.child_token();
                    let (limits, metrics) = (self.limits, self.metrics.clone());
                    let mut wire = Wire::new(L::ROLE, node.id, transport, limits, metrics, cancel.clone());
                    let line = Arc::new(L::open(&mut wire));
                    let (rpc, gone, tasks) = (node.rpc.clone(), wire.gone(), wire.into_tasks());
                    self.open.insert(node.id, Open { rpc, line, cancel, gone, tasks });
                }
                Err(error) => {
                    tracing::warn!(role = %node.role, node = %node.id, %error, "the address of a node is not usable");
                }
            }
        }
        let lines = self.open.iter().map(|(id, open)| (*id, Arc::clone(&open.line))).collect();
        let members = members(&picture, L::ROLE).into();
        View { picture, lines, members }
    }
}

/// All nodes of a role, also those that are down: what is asked of every shard is not complete without them.
pub(crate) fn members(picture: &Picture, role: Role) -> Vec<NodeId> {
    picture.of(role).map(|n| n.id).collect()
}

/// The nodes of a role that may be up: one that starts may have devices before its peers hear that it is ready. One that is
/// only listed and was never heard of (in its life 0) is not waited for.
pub(crate) fn not_down(picture: &Picture, role: Role) -> Vec<NodeId> {
    let up = |n: &&NodeInfo| n.state != NodeState::Down && (n.state != NodeState::Starting || n.life() > 0);
    picture.of(role).filter(up).map(|n| n.id).collect()
}
