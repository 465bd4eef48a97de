//! One life of a node in its process: from entering the cluster to the drain.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    sync::Arc,
};

use cluster::{
    ConfigReport, DiscoveryError, NodeId, Peer, StaticPeers, Tls,
    etcd::{ConfigTexts, EtcdDiscovery, EtcdMetrics, EtcdOptions, Lost, Start},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Identity, Metrics, Node, Readiness, Remote, Service, StartError,
    live::Live,
    node::create_folder,
    process::{Membership, Settings},
    telemetry::LogFilter,
    tls,
};

/// What outlives the node in the process.
pub(crate) struct Process {
    pub(crate) settings: Settings,
    pub(crate) tls: Option<Tls>,
    pub(crate) log: LogFilter,
    /// Counts requests to look at the files again.
    pub(crate) hangups: watch::Receiver<u64>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Fires when the process is to end.
    pub(crate) end: CancellationToken,
}

/// Which life this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    First,
    /// The one before lost its id, so any other will do now.
    Another,
}

/// Why a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Somebody asked for it.
    Asked,
    /// The node id is another node's now: begin again.
    IdLost,
}

/// What a node follows besides its cluster; with discovery by a list it is nothing.
struct Followed {
    live: Live,
    config: watch::Receiver<Option<ConfigTexts>>,
    lost: watch::Receiver<Option<Lost>>,
}

impl Process {
    /// Enters the cluster, serves until there is a reason not to, and drains.
    ///
    /// # Errors
    /// When the node cannot start, or must not go on.
    pub(crate) async fn live<S: Service>(&self, life: Life) -> Result<Ended, StartError> {
        self.readiness.set(Vec::new());
        self.metrics.clear();
        let cancel = CancellationToken::new();
        let _stop_all = cancel.clone().drop_guard();
        let data = create_folder(&self.settings.node.data)?;
        // Boxed: what a service's start holds on the stack would be held here for as long as the process runs.
        let started = Box::pin(async {
            match &self.settings.discovery {
                Membership::Static(peers) => self.start_listed::<S>(peers, cancel.clone()).await,
                Membership::Etcd(options) => self.start_registered::<S>(options, &data, life).await,
            }
        });
        let (node, followed) = tokio::select! {
            started = started => match started {
                Err(StartError::Discovery(DiscoveryError::Taken(id))) => {
                    warn!(node = %id, "the id became another node's before this one was ready; beginning again");
                    return Ok(Ended::IdLost);
                }
                started => started?,
            },
            // It has taken nothing from anybody yet.
            () = self.end.cancelled() => return Ok(Ended::Asked),
        };
        let (hangups, host) = (&self.hangups, node.host());
        self.log.follow(hangups.clone(), &self.metrics, &host.tasks, host.cancel.clone());
        if let Some(tls) = &self.tls {
            tls::follow(tls, &self.metrics, hangups.clone(), &host.tasks, host.cancel.clone());
        }
        self.readiness.set(vec![node.readiness()]);
        let lost = self.serve(&node, followed).await;
        node.drain(self.settings.node.drain_deadline).await;
        match lost {
            None => Ok(Ended::Asked),
            Some(Lost::Taken { id, by }) => {
                warn!(node = %id, role = %by.role, host = by.host, "the id is another node's now; beginning again");
                Ok(Ended::IdLost)
            }
            Some(Lost::Twin { id, by }) => Err(StartError::other(format!(
                "node id {id} was taken by a process with a copy of this one's data folder, on host {:?} (process {}): give each its own",
                by.host, by.process
            ))),
        }
    }

    /// Until somebody asks for the end, or the id is lost.
    async fn serve<S: Service>(&self, node: &Node<S>, followed: Option<Followed>) -> Option<Lost> {
        let Some(Followed { mut live, mut config, mut lost }) = followed else {
            self.end.cancelled().await;
            return None;
        };
        loop {
            tokio::select! {
                () = self.end.cancelled() => return None,
                Some(lost) = told(&mut lost) => return Some(lost),
                Ok(()) = config.changed() => {
                    let texts = config.borrow_and_update().clone().unwrap_or_default();
                    if let Some(new) = live.take::<S>(&texts) {
                        let picture = node.host().cluster.picture();
                        self.metrics.set_memory_bound(S::ROLE, S::memory_bound(&new), picture);
                        node.service().apply(new);
                    }
                    node.host().me().set_config(live.report());
                }
                else => {
                    self.end.cancelled().await;
                    return None;
                }
            }
        }
    }

    async fn start_listed<S: Service>(
        &self,
        peers: &[Peer],
        cancel: CancellationToken,
    ) -> Result<(Node<S>, Option<Followed>), StartError> {
        let settings = &self.settings;
        let id = NodeId(settings.node.id()?);
        let own = peers.iter().find(|p| p.role == S::ROLE && p.id == id);
        let own = own.ok_or(DiscoveryError::NotListed { role: S::ROLE, id })?.rpc.clone();
        let listen =
            match settings.rpc.listen {
                Some(listen) => listen,
                None => own.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(|| {
                    StartError::config("discovery.peers", format!("{own:?} is no host:port"))
                })?,
            };
        let discovery = StaticPeers::start(S::ROLE, peers.to_vec(), self.tls.as_ref(), cancel)
            .map_err(|e| StartError::config("discovery.peers", format!("an address is no host:port: {e}")))?;
        let config = settings.layers.read::<S>(&ConfigTexts::default())?;
        let identity = Identity::configured(&settings.node, S::ROLE)?;
        let node = self
            .start::<S>(config, identity, (listen, own), Arc::new(discovery), ConfigReport::default())
            .await?;
        Ok((node, None))
    }

    async fn start_registered<S: Service>(
        &self,
        options: &EtcdOptions,
        data: &Path,
        life: Life,
    ) -> Result<(Node<S>, Option<Followed>), StartError> {
        let settings = &self.settings;
        let addresses = settings.rpc.addresses()?;
        let metrics = EtcdMetrics::default();
        self.metrics.register("discovery", |registry| metrics.register(registry));
        let start = Start {
            role: S::ROLE,
            id: settings.node.id.map(NodeId),
            any_id: life == Life::Another,
            data: data.to_owned(),
        };
        let discovery = EtcdDiscovery::start(options.clone(), start, metrics).await?;
        let mut texts = discovery.config();
        let (lost, now) = (discovery.lost(), texts.borrow_and_update().clone().unwrap_or_default());
        let (live, config) = Live::start::<S>(settings.layers.clone(), &now)?;
        let identity = Identity { id: discovery.id(), incarnation: discovery.incarnation() };
        let node = self.start::<S>(config, identity, addresses, Arc::new(discovery), live.report()).await?;
        Ok((node, Some(Followed { live, config: texts, lost })))
    }

    async fn start<S: Service>(
        &self,
        config: S::Config,
        identity: Identity,
        (listen, advertise): (SocketAddr, String),
        discovery: Arc<dyn cluster::Discovery>,
        report: ConfigReport,
    ) -> Result<Node<S>, StartError> {
        let remote = Remote {
            identity,
            discovery,
            listen,
            advertise,
            tls: self.tls.clone(),
            end: self.end.clone(),
            config: report,
        };
        let node = Node::start_remote(&self.settings.node, config, self.metrics.clone(), remote).await?;
        info!(rpc = %listen, "serving");
        Ok(node)
    }
}

/// Waits for a loss; `None`: there will be none.
async fn told(lost: &mut watch::Receiver<Option<Lost>>) -> Option<Lost> {
    lost.wait_for(Option::is_some).await.ok()?.clone()
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
