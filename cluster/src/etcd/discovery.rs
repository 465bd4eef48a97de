//! A node's membership in a cluster that keeps itself in etcd.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::{
    ConfigTexts, EtcdMetrics, EtcdOptions, Holder, Lost, Wanted,
    config::ConfigFollower,
    enter::enter,
    folder::Folder,
    keeper::{Keeper, Order},
    link::Link,
    nodes::{Nodes, NodesFollower},
    registration::{Registration, watchman},
    watch::follow,
};
use crate::{Discovery, DiscoveryError, Incarnation, Me, NodeId, Picture, Role};

/// A drain does not wait longer than this for an etcd that hangs.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// Who enters.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its service.
    pub role: Role,
    /// Its configured id.
    pub id: Option<NodeId>,
    /// Whether another id will do when the configured one is taken: so for a node that has lost it while it ran.
    pub any_id: bool,
    /// Its data folder, which must be there: it keeps the node's id and the number of its lives.
    pub data: PathBuf,
}

/// Discovery by etcd. It stays a member until it leaves, or is dropped.
pub struct EtcdDiscovery {
    name: String,
    id: NodeId,
    incarnation: Incarnation,
    orders: mpsc::Sender<Order>,
    nodes: Arc<Nodes>,
    registration: Arc<Registration>,
    config: watch::Receiver<Option<ConfigTexts>>,
    /// Until it leaves.
    present: Mutex<Option<Present>>,
}

/// What a node holds as long as it is there.
struct Present {
    /// Ends what follows etcd.
    _cancel: DropGuard,
    /// No other process is this node.
    _folder: Folder,
}

impl EtcdDiscovery {
    /// Takes a node id, and reads who else is there and what the cluster's configuration is. Waits for etcd as long as
    /// it takes; drop the future to give up.
    ///
    /// # Errors
    /// When the id stays taken, or the data folder cannot be used.
    pub async fn start(
        options: EtcdOptions,
        start: Start,
        metrics: EtcdMetrics,
    ) -> Result<Self, DiscoveryError> {
        options.check()?;
        let mut folder = Folder::open(&start.data, start.role)?;
        let name = options.cluster.clone();
        let link = Link::new(options, metrics);
        let holder = Holder {
            role: start.role,
            owner: folder.owner().to_owned(),
            life: super::random_word(),
            host: host(),
            process: std::process::id(),
        };
        let wanted = match (start.id, folder.id()) {
            (Some(id), _) if !start.any_id => Wanted::Exactly(id),
            (Some(id), _) | (None, Some(id)) => Wanted::Rather(id),
            (None, None) => Wanted::Any,
        };
        let asked = Instant::now();
        let claim = enter(&link, wanted, &holder, folder.last_life()).await?;
        let incarnation = folder.enter(claim.id, claim.number)?;
        info!(role = %start.role, node = %claim.id, %incarnation, "entered the cluster");

        let id = claim.id;
        let cancel = CancellationToken::new();
        let nodes = Arc::new(Nodes::new(link.options().lease, link.metrics().clone()));
        let registration = Arc::new(Registration::new(asked));
        // Few ask: whoever joins, and whoever leaves.
        let (orders, received) = mpsc::channel(4);
        let keeper = Keeper {
            link: link.clone(),
            holder,
            claim,
            registration: registration.clone(),
            picture: nodes.picture(),
            orders: received,
            me: None,
            beat: None,
        };
        // It ends when the orders do, so that it can still say goodbye.
        tokio::spawn(keeper.run());
        let (texts, mut config) = watch::channel(None);
        let doubt = registration.clone();
        let mut follow_nodes = NodesFollower {
            nodes: nodes.clone(),
            keys: link.keys().clone(),
            own: Some(((start.role, id), Box::new(move || doubt.doubt.notify_one()))),
        };
        let mut follow_config = ConfigFollower::new(link.keys(), start.role, id, texts);
        let (node_keys, config_keys) = (link.keys().nodes(), link.keys().configs(start.role));
        let (link_of_nodes, link_of_config) = (link.clone(), link.clone());
        spawn(&cancel, async move { follow(link_of_nodes, node_keys, &mut follow_nodes).await });
        spawn(&cancel, async move { follow(link_of_config, config_keys, &mut follow_config).await });
        spawn(&cancel, watchman(link, nodes.clone(), registration.clone()));
        let mut picture = nodes.picture();
        // Neither can close: their senders are in the tasks, which live as long as the guard.
        let guard = cancel.drop_guard();
        let _ = picture.wait_for(|picture| picture.revision() > 0).await;
        let _ = config.wait_for(Option::is_some).await;
        let present = Mutex::new(Some(Present { _cancel: guard, _folder: folder }));
        Ok(Self { name, id, incarnation, orders, nodes, registration, config, present })
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The number of this life: of all registrations in the cluster, this is the so-manieth.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Holds something when the id belongs to somebody else, for good: this node must end.
    pub fn lost(&self) -> watch::Receiver<Option<Lost>> {
        self.registration.lost.subscribe()
    }

    /// Follows the configuration that the cluster keeps for this node.
    pub fn config(&self) -> watch::Receiver<Option<ConfigTexts>> {
        self.config.clone()
    }
}

impl Discovery for EtcdDiscovery {
    fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.nodes.picture()
    }

    /// Answers when the node's entry is in etcd; while etcd is away that can take any time.
    fn join(&self, me: Arc<Me>) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let gone = || DiscoveryError::Taken(self.id);
            let (joined, answer) = oneshot::channel();
            self.orders.send(Order::Join(me, joined)).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn lapses(&self) -> watch::Receiver<u64> {
        self.registration.lapses()
    }

    fn leave<'a>(&'a self, _me: &'a Me) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (done, left) = oneshot::channel();
            if self.orders.send(Order::Leave(done)).await.is_ok() {
                // If the keeper has ended, nothing is left to take out; if etcd is away, the lease ends by itself.
                let _ = timeout(LEAVE_PATIENCE, left).await;
            }
            self.present.lock().unwrap_or_else(PoisonError::into_inner).take();
        })
    }
}

fn spawn(cancel: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let cancel = cancel.clone();
    tokio::spawn(async move {
        cancel.run_until_cancelled(task).await;
    });
}

/// Name of this host, for people.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}
