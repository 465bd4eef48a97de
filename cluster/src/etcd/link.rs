//! One connection to etcd for all that this process wants of it.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use super::{EtcdError, EtcdMetrics, EtcdOptions, keys::Keys};

/// etcd's default bound on pings is one in five seconds; a client that pings more often is cut off.
const PING_INTERVAL: Duration = Duration::from_secs(6);
/// A member that does not answer a ping for so long hangs.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to one member at a time; when it fails, the next one is made to the next member. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    options: EtcdOptions,
    keys: Keys,
    metrics: EtcdMetrics,
    current: Mutex<Current>,
    /// The last generation that is known to have failed.
    broken: watch::Sender<u64>,
}

struct Current {
    client: Option<Client>,
    generation: u64,
    /// Which member is asked next.
    next: usize,
}

/// A client, and which of the connections it uses.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) generation: u64,
}

impl Link {
    pub(crate) fn new(options: EtcdOptions, metrics: EtcdMetrics) -> Self {
        // Nodes that start together spread over the members.
        let next = rand::random_range(0..options.endpoints.len().max(1));
        let current = Mutex::new(Current { client: None, generation: 0, next });
        let keys = Keys::new(&options.cluster);
        Self { shared: Arc::new(Shared { options, keys, metrics, current, broken: watch::Sender::new(0) }) }
    }

    pub(crate) fn options(&self) -> &EtcdOptions {
        &self.shared.options
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    pub(crate) fn metrics(&self) -> &EtcdMetrics {
        &self.shared.metrics
    }

    /// The present connection, or a new one to the first member that answers; each is asked once.
    pub(crate) async fn connection(&self) -> Result<Connection, EtcdError> {
        let mut current = self.shared.current.lock().await;
        if current.generation <= *self.shared.broken.borrow() {
            current.client = None;
        }
        if let Some(client) = &current.client {
            return Ok(Connection { client: client.clone(), generation: current.generation });
        }
        self.shared.metrics.connected.set(0);
        let endpoints = &self.shared.options.endpoints;
        let mut reasons = Vec::new();
        for _ in 0..endpoints.len() {
            let endpoint = &endpoints[current.next % endpoints.len()];
            current.next += 1;
            // Boxed: what a connection's making holds would be held in every request.
            match Box::pin(self.connect(endpoint)).await {
                Ok(client) => {
                    current.generation += 1;
                    current.client = Some(client.clone());
                    self.shared.metrics.connected.set(1);
                    tracing::debug!(endpoint, "connected to etcd");
                    return Ok(Connection { client, generation: current.generation });
                }
                Err(EtcdError::Away(reason)) => reasons.push(format!("{endpoint}: {reason}")),
                Err(error) => reasons.push(format!("{endpoint}: {error}")),
            }
        }
        Err(EtcdError::Away(reasons.join("; ")))
    }

    /// A connection that has proved that its member answers and knows a leader.
    async fn connect(&self, endpoint: &str) -> Result<Client, EtcdError> {
        let patience = self.shared.options.patience();
        let mut options = ConnectOptions::new()
            .with_connect_timeout(patience)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_require_leader(true);
        if let (true, Some(tls)) = (endpoint.starts_with("https:"), &self.shared.options.tls) {
            let ca = Certificate::from_pem(read(&tls.ca).await?);
            let identity = Identity::from_pem(read(&tls.cert).await?, read(&tls.key).await?);
            options = options.with_tls(TlsOptions::new().ca_certificate(ca).identity(identity));
        }
        let prove = async {
            let mut client = Client::connect([endpoint], Some(options)).await?;
            client.get(self.shared.keys.birth(), None).await?;
            Ok(client)
        };
        timeout(patience, prove)
            .await
            .unwrap_or_else(|_| Err(EtcdError::Away("no answer in time".to_owned())))
    }

    /// Says that a connection has failed; whoever asks next gets a new one.
    pub(crate) fn give_up(&self, generation: u64) {
        self.shared.broken.send_if_modified(|broken| {
            let news = generation > *broken;
            *broken = generation.max(*broken);
            news
        });
    }

    /// Waits until somebody finds that this connection has failed.
    pub(crate) async fn broken(&self, generation: u64) {
        let mut broken = self.shared.broken.subscribe();
        // The sender lives as long as `self`.
        let _ = broken.wait_for(|broken| *broken >= generation).await;
    }

    /// One request; it is not repeated.
    pub(crate) async fn call<T, F>(&self, request: impl FnOnce(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let Connection { client, generation } = self.connection().await?;
        let answer = timeout(self.shared.options.patience(), Box::pin(request(client))).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(EtcdError::from),
            Err(_) => Err(EtcdError::Away("no answer in time".to_owned())),
        };
        if answer.as_ref().is_err_and(EtcdError::is_away) {
            self.give_up(generation);
        }
        answer
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    let fail = |e: std::io::Error| EtcdError::Certificate { path: path.to_owned(), reason: e.to_string() };
    tokio::fs::read(path).await.map_err(fail)
}
