//! The gRPC server that the other nodes call: its own accept loop, so that each connection is greeted in a task of its
//! own, under a time-out, and with the certificates of its time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use cluster::{
    Tls,
    tls::{Sometimes, peer_error},
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport::Server};
use tracing::{debug, warn};

use crate::{
    Metrics,
    admission::Admission,
    peer_io::{PeerIo, turn_away},
};

/// After an accept that failed; connections end within such a time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that one peer may have in flight on one connection; batching keeps it far below.
const MAX_STREAMS: u32 = 1024;
/// Windows that hold a full batch, and several: what a peer may have sent that nobody has looked at yet. What has been
/// looked at is bounded by [`RPC_BODY_BYTES`].
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The same for both directions.
pub(crate) const NODE_WINDOW: u32 = CONNECTION_WINDOW;
/// Bytes of requests under way from all other nodes: some sixty full batches, which is what a dozen centers can have under
/// way to one saver.
pub(crate) const RPC_BODY_BYTES: usize = 64 << 20;
/// Peers give up after two seconds to connect; what takes longer is no peer.
const GREET_TIMEOUT: Duration = Duration::from_secs(5);
/// Greetings at once, some 50 KiB each: more than a cluster has nodes that start together; the others wait in the backlog.
const MAX_GREETINGS: usize = 64;
/// Greeted connections that the server has not taken yet; it takes them at once.
const READY_CONNECTIONS: usize = 16;
/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What is counted, under `longwire_rpc_`.
#[derive(Clone, Debug, Default)]
struct Counters {
    opened: Counter,
    closed: Counter,
    refused: Counter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("rpc", |r| {
            r.register("connections_opened", "Connections of other nodes, taken", own.opened.clone());
            r.register("connections_closed", "Connections of other nodes, ended", own.closed.clone());
            r.register(
                "connections_refused",
                "Connections without TLS, or whose certificate is not good",
                own.refused.clone(),
            );
        });
        own
    }
}

/// Serves until `cancel`: over TLS with client certificates of our CA if `tls` is there.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Routes,
    tls: Option<Tls>,
    metrics: &Metrics,
    cancel: CancellationToken,
) {
    let admission = Admission::new(RPC_BODY_BYTES);
    metrics.register("rpc", |registry| admission.register(registry));
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_routes(admission.guard(routes));
    let (ready, incoming) = mpsc::channel(READY_CONNECTIONS);
    let greeter = Greeter { tls, ready, counters: Counters::new(metrics), warned: Arc::default() };
    let accepting = greeter.accept(paced(TcpListenerStream::new(listener)), cancel.clone());
    let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
    let serving = server.serve_with_incoming_shutdown(incoming, cancel.clone().cancelled_owned());
    let (served, ()) = tokio::join!(serving, accepting);
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server ended");
    }
}

#[derive(Clone)]
struct Greeter {
    tls: Option<Tls>,
    ready: mpsc::Sender<PeerIo>,
    counters: Counters,
    warned: Arc<Sometimes>,
}

impl Greeter {
    async fn accept(self, incoming: impl Stream<Item = io::Result<TcpStream>>, cancel: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_GREETINGS));
        let greetings = TaskTracker::new();
        let mut incoming = std::pin::pin!(incoming);
        let all = async {
            while let Ok(permit) = permits.clone().acquire_owned().await {
                let Some(accepted) = incoming.next().await else { break };
                // The pause was `paced`'s.
                let Ok(stream) = accepted else { continue };
                let (own, cancel) = (self.clone(), cancel.clone());
                greetings.spawn(async move {
                    cancel.run_until_cancelled(own.greet(stream)).await;
                    drop(permit);
                });
            }
        };
        cancel.run_until_cancelled(all).await;
        greetings.close();
        greetings.wait().await;
    }

    async fn greet(self, stream: TcpStream) {
        let Ok(peer) = stream.peer_addr() else { return };
        match timeout(GREET_TIMEOUT, self.shake(stream)).await {
            Ok(Ok(Some(io))) => {
                let io = io.counted(&self.counters.opened, &self.counters.closed);
                // The server has ended: so does the connection.
                let _ = self.ready.send(io).await;
            }
            // Whoever looks whether the port is open.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => match peer_error(&error) {
                Some(reason) => self.refuse(peer, &reason),
                None => debug!(%peer, %error, "a peer's connection broke in its handshake"),
            },
            Err(_) => self.refuse(peer, "it took too long for its handshake"),
        }
    }

    /// `None`: the peer said nothing, or has been turned away.
    async fn shake(&self, stream: TcpStream) -> io::Result<Option<PeerIo>> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        match (&self.tls, first == [TLS_HANDSHAKE]) {
            (None, false) => Ok(Some(PeerIo::plain(stream))),
            (Some(tls), true) => {
                let accepted = TlsAcceptor::from(tls.server()).accept(stream).await?;
                Ok(Some(PeerIo::tls(accepted)))
            }
            (None, true) => {
                self.refuse(stream.peer_addr()?, "it speaks TLS, and this node is configured as plaintext");
                turn_away(stream, "this node is configured as plaintext").await;
                Ok(None)
            }
            (Some(_), false) => {
                self.refuse(stream.peer_addr()?, "it speaks plaintext, and this node is configured for TLS");
                turn_away(stream, "this node is configured for TLS").await;
                Ok(None)
            }
        }
    }

    /// Anybody can do this as often as they like: it is counted, and told once a minute.
    fn refuse(&self, peer: SocketAddr, reason: &str) {
        self.counters.refused.inc();
        if self.warned.due() {
            warn!(%peer, reason, "a peer is refused");
        } else {
            debug!(%peer, reason, "a peer is refused");
        }
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

#[cfg(test)]
#[path = "rpc_server_tests.rs"]
mod tests;
