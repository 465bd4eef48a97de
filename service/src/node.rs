//! One service, running.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use cluster::{Cluster, Discovery, Incarnation, LocalServices, Me, NodeId, NodeState};
use proto::internal::node_server::NodeServer;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tracing::{info, warn};

use crate::{Host, Metrics, NodeSettings, Service, StartError, node_rpc::NodeRpc};

/// After the drain, tasks get this long to see that they are cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// After an accept that failed; connections end within such a time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that one peer may have in flight on one connection; batching keeps it far below.
const MAX_STREAMS: u32 = 1024;
/// Windows that hold several full batches.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One service, running: started, joined to its cluster, and callable.
pub struct Node<S> {
    service: S,
    host: Host,
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
        let node = Self::start(settings, config, discovery, local.clone(), metrics, None).await?;
        local.insert(node.host.me().id(), node.routes());
        node.enter().await?;
        Ok(node)
    }

    /// Starts a service that other processes call at `rpc`; `address` is what they know it by.
    ///
    /// # Errors
    /// When the port is taken, the service cannot start or discovery refuses it.
    pub async fn start_remote(
        settings: &NodeSettings,
        config: S::Config,
        discovery: Arc<dyn Discovery>,
        metrics: Metrics,
        listen: SocketAddr,
    ) -> Result<Self, StartError> {
        let listener = TcpListener::bind(listen).await.map_err(|source| StartError::Listen {
            key: "rpc.listen".to_owned(),
            address: listen,
            source,
        })?;
        let local = LocalServices::default();
        let node = Self::start(settings, config, discovery, local, metrics, Some(listen.to_string())).await?;
        let cancel = node.host.cancel.clone();
        let server = Server::builder()
            .tcp_nodelay(true)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_routes(node.routes());
        node.host.spawn(async move {
            let incoming = paced(TcpListenerStream::new(listener));
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, cancel.cancelled_owned()).await
            {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        node.enter().await?;
        Ok(node)
    }

    async fn start(
        settings: &NodeSettings,
        config: S::Config,
        discovery: Arc<dyn Discovery>,
        local: LocalServices,
        metrics: Metrics,
        rpc: Option<String>,
    ) -> Result<Self, StartError> {
        let id = settings.id()?;
        S::check(&config)?;
        let data = create_folder(&settings.data)?;
        let incarnation = Incarnation::next(&data, &format!("{}-{}", S::ROLE, id))?;
        let me = Arc::new(Me::new(S::ROLE, NodeId(id), incarnation, &settings.zone, rpc));
        let cluster = Cluster::new(discovery, local, me);
        let host = Host::new(cluster, data, metrics, CancellationToken::new());
        // A service that fails half-way leaves no task behind.
        let abandon = host.cancel.clone().drop_guard();
        let service = S::start(config, host.clone()).await?;
        abandon.disarm();
        Ok(Self { service, host })
    }

    fn routes(&self) -> Routes {
        self.service.rpc().add_service(NodeServer::new(NodeRpc(self.host.me().clone())))
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
        let Self { service, host } = self;
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

/// Out of file descriptors, the server would accept again at once, and again, on a whole core.
fn paced<T>(accepted: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = io::Result<T>> {
    accepted.then(async |accepted| {
        if let Err(error) = &accepted {
            warn!(%error, "cannot accept a peer's connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    })
}

/// Makes the folder and proves that it can be written, before anything depends on it.
fn create_folder(path: &Path) -> Result<std::path::PathBuf, StartError> {
    let fail = |e: std::io::Error| {
        StartError::other(format!("cannot write to the data folder {}: {e}", path.display()))
    };
    std::fs::create_dir_all(path).map_err(fail)?;
    let probe = path.join(".writable");
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(fail)?;
    path.canonicalize().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_followed_by_a_pause() {
        let errors = tokio_stream::iter((0..3).map(|_| Err::<(), _>(io::Error::from_raw_os_error(24))));
        let start = tokio::time::Instant::now();
        assert_eq!(paced(errors).collect::<Vec<_>>().await.len(), 3);
        assert_eq!(start.elapsed(), 3 * ACCEPT_PAUSE);
    }
}
