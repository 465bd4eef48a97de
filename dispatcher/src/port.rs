//! The public port: HTTP/1 and HTTP/2 on one listener, bounded in connections and in time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::{config::PortConfig, http::PeerAddress, metrics::DispatcherMetrics};

/// A device sends its few hundred bytes at once, or is on a network where it would not get on with a room either.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// From the request to end a connection until it is cut.
const END_WITHIN: Duration = Duration::from_secs(10);
/// When the process is out of file descriptors the next accept would fail at once too.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
/// A connection asks little at a time; so it can make the dispatcher hold little.
pub(crate) const MAX_STREAMS: u32 = 4;
/// Head of a request, and what may come of its body before anybody has asked for it: a request is a few hundred bytes.
pub(crate) const HEADS_BYTES: u32 = 4 << 10;
pub(crate) const STREAM_WINDOW: u32 = 4 << 10;
/// The same for HTTP/1, where cookies of a browser may come along.
const HTTP1_BYTES: usize = 16 << 10;

pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) app: Router,
    pub(crate) config: PortConfig,
    pub(crate) metrics: DispatcherMetrics,
    /// Connections are asked to end, and no more are taken.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Port {
    /// Accepts until closing. Only accepts: everything else is done in the connection's own task.
    pub(crate) async fn serve(self) {
        let permits = Arc::new(Semaphore::new(self.config.connections));
        loop {
            let accepted = self.closing.run_until_cancelled(self.accept(&permits)).await;
            match accepted {
                None => return,
                Some(Ok((stream, peer, permit))) => self.take(stream, peer, permit),
                Some(Err(error)) => {
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn accept(
        &self,
        permits: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream, peer, permit))
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let (app, metrics, closing) = (self.app.clone(), self.metrics.clone(), self.closing.clone());
        let lifetime = self.config.connection_lifetime;
        metrics.connections_opened.inc();
        self.tasks.spawn(async move {
            if let Err(error) = converse(stream, peer, app, lifetime, closing).await {
                debug!(%peer, %error, "a connection ended");
            }
            metrics.connections_closed.inc();
            drop(permit);
        });
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    lifetime: Duration,
    closing: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(HTTP1_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEADS_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        app.clone().oneshot(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = tokio::time::sleep(lifetime) => {}
        () = closing.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(END_WITHIN, connection).await?
}
