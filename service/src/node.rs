//! One service, running.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use cluster::{
    Cluster, ConfigReport, Discovery, Incarnation, LocalServices, Me, NodeId, NodeState, Role, Tls,
};
use proto::internal::node_server::NodeServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

use crate::{Host, Metrics, NodeSettings, Service, StartError, node_rpc::NodeRpc, rpc_server};

/// After the drain, tasks get this long to see that they are cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Who a node is, in this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub id: NodeId,
    /// Which life this is.
    pub incarnation: Incarnation,
}

impl Identity {
    /// The configured number, with one more life counted in the data folder.
    ///
    /// # Errors
    /// When the number is missing or none that a node can have, or the folder cannot be written.
    pub fn configured(settings: &NodeSettings, role: Role) -> Result<Self, StartError> {
        let id = settings.id()?;
        let data = create_folder(&settings.data)?;
        Ok(Self { id: NodeId(id), incarnation: Incarnation::next(&data, &format!("{role}-{id}"))? })
    }
}

/// How a node and other processes reach each other.
pub struct Remote {
    /// Who the node is.
    pub identity: Identity,
    /// Who else is there.
    pub discovery: Arc<dyn Discovery>,
    /// Where its gRPC server listens.
    pub listen: SocketAddr,
    /// What the others call it by, `host:port`.
    pub advertise: String,
    /// Certificates, if the nodes speak TLS.
    pub tls: Option<Tls>,
    /// Fires when somebody asks the node to drain, over gRPC: whoever runs it has to do it then.
    pub end: CancellationToken,
    /// What has become of the configuration that discovery keeps for it.
    pub config: ConfigReport,
}

/// One service, running: started, joined to its cluster, and callable.
pub struct Node<S> {
    service: S,
    host: Host,
    end: Option<CancellationToken>,
}

impl<S: Service> Node<S> {
    /// Starts a service in this process: `local` makes it callable without a network.
    ///
    /// # Errors
    /// When the service cannot start or discovery refuses it.
    pub async fn start_local(
        settings: &NodeSettings,
        config: S::Config,
        discovery: Arc<dyn Discovery>,
        local: LocalServices,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let identity = Identity::configured(settings, S::ROLE)?;
        let me = Me::new(S::ROLE, identity.id, identity.incarnation, &settings.zone, None);
        let cluster = Cluster::new(discovery, local.clone(), Arc::new(me));
        let node = Self::start(settings, config, cluster, metrics, None).await?;
        local.insert(node.host.me().id(), node.routes());
        node.enter().await?;
        Ok(node)
    }

    /// Starts a service that other processes call, over TLS if there are certificates; then it calls them so too.
    ///
    /// # Errors
    /// When the port is taken, the service cannot start or discovery refuses it.
    pub async fn start_remote(
        settings: &NodeSettings,
        config: S::Config,
        metrics: Metrics,
        remote: Remote,
    ) -> Result<Self, StartError> {
        let Remote { identity, discovery, listen, advertise, tls, end, config: report } = remote;
        let listener = TcpListener::bind(listen).await.map_err(|source| StartError::Listen {
            key: "rpc.listen".to_owned(),
            address: listen,
            source,
        })?;
        let me = Me::new(S::ROLE, identity.id, identity.incarnation, &settings.zone, Some(advertise));
        me.set_config(report);
        let cluster = Cluster::new(discovery, LocalServices::default(), Arc::new(me)).with_tls(tls.clone());
        let node = Self::start(settings, config, cluster, metrics, Some(end)).await?;
        let cancel = node.host.cancel.clone();
        let (routes, metrics) = (node.routes(), node.host.metrics.clone());
        node.host.spawn(async move { rpc_server::serve(listener, routes, tls, &metrics, cancel).await });
        if let Err(error) = node.enter().await {
            // Nobody knows it; but whoever begins anew in this process needs its ports.
            node.drain(settings.drain_deadline).await;
            return Err(error);
        }
        Ok(node)
    }

    async fn start(
        settings: &NodeSettings,
        config: S::Config,
        cluster: Cluster,
        metrics: Metrics,
        end: Option<CancellationToken>,
    ) -> Result<Self, StartError> {
        S::check(&config)?;
        let data = create_folder(&settings.data)?;
        let host = Host::new(cluster, data, metrics, CancellationToken::new());
        // A service that fails half-way leaves no task behind.
        let abandon = host.cancel.clone().drop_guard();
        host.metrics.set_memory_bound(S::ROLE, S::memory_bound(&config), host.cluster.picture());
        let service = S::start(config, host.clone()).await?;
        abandon.disarm();
        Ok(Self { service, host, end })
    }

    fn routes(&self) -> Routes {
        self.service
            .rpc()
            .add_service(NodeServer::new(NodeRpc { me: self.host.me().clone(), end: self.end.clone() }))
    }

    async fn enter(&self) -> Result<(), StartError> {
        self.host.me().set_state(NodeState::Ready);
        self.host.cluster.join().await?;
        let me = self.host.me();
        info!(role = %me.role(), node = %me.id(), incarnation = %me.incarnation(), "ready");
        Ok(())
    }

    /// The running service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// What it runs in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether the node serves: what `/readyz` answers.
    pub fn readiness(&self) -> Arc<Me> {
        self.host.me().clone()
    }

    /// Says "draining", lets the service finish, leaves the cluster and waits for every task.
    pub async fn drain(self, deadline: Duration) {
        let Self { service, host, .. } = self;
        let me = host.me().clone();
        me.set_state(NodeState::Draining);
        info!(role = %me.role(), node = %me.id(), "draining");
        if tokio::time::timeout(deadline, service.drain(deadline)).await.is_err() {
            warn!(role = %me.role(), "the drain did not end within {deadline:?}; ending anyway");
        }
        host.cluster.leave().await;
        host.cluster.local().remove(me.id());
        host.cancel.cancel();
        host.tasks.close();
        if tokio::time::timeout(CANCEL_GRACE, host.tasks.wait()).await.is_err() {
            warn!(role = %me.role(), tasks = host.tasks.len(), "tasks did not end when cancelled");
        }
        info!(role = %me.role(), node = %me.id(), "drained");
    }
}

/// Makes the folder and proves that it can be written, before anything depends on it.
pub(crate) fn create_folder(path: &Path) -> Result<std::path::PathBuf, StartError> {
    let fail = |e: std::io::Error| {
        StartError::other(format!("cannot write to the data folder {}: {e}", path.display()))
    };
    std::fs::create_dir_all(path).map_err(fail)?;
    let probe = path.join(".writable");
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(fail)?;
    path.canonicalize().map_err(fail)
}
