//! The API's port: HTTP/1 and HTTP/2 with prior knowledge (gRPC), told apart by their first bytes.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    greeting::{Greeting, Http2Places},
    limits::Budget,
    metrics::Metrics,
};

/// A caller that has not sent its request's head by then is cut off; a head is one packet.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Out of file descriptors, accepting again at once would spin; connections end within such a time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests that one HTTP/2 connection may have under way; gRPC callers who want more open a second one.
const STREAMS_MAX: u32 = 512;

/// What a connection of HTTP/2 may have sent that nobody has asked for yet: the body of a request whose caller is being looked
/// up. It holds a batch of a hundred usual pushes; a larger body comes in parts of it, a round trip each.
pub(crate) const HTTP2_WINDOW: u32 = 256 << 10;

/// Head of a request.
pub(crate) const HEAD_BYTES: u32 = 8 << 10;

/// What a connection of HTTP/1 holds of what comes, and as much again of what goes. A head must fit.
pub(crate) const HTTP1_BYTES: usize = 16 << 10;

/// How many connections there may be, and how many of them may speak HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    pub(crate) max: usize,
    pub(crate) http2_max: usize,
}

/// A peer that vanished without a word is noticed after interval and time-out.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts and serves until `stop` fires, then lets requests under way finish for at most `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    most: Connections,
    metrics: Metrics,
    stop: CancellationToken,
    grace: Duration,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .pipeline_flush(true)
        .max_buf_size(HTTP1_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES)
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let builder = Arc::new(builder);
    let places = Arc::new(Semaphore::new(most.max));
    let http2_places = Budget::new("connections of HTTP/2", most.http2_max);
    let http2 = Http2Places { places: http2_places, refused: metrics.http2_refused.clone() };
    let connections = GracefulShutdown::new();
    let killed = CancellationToken::new();
    while let Some((stream, place)) = next(&listener, &places, &stop).await {
        metrics.connections_opened.inc();
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection(TokioIo::new(Greeting::within(HEAD_TIMEOUT, stream, http2.clone())), service)
            .into_owned();
        let connection = connections.watch(connection);
        let (metrics, killed) = (metrics.clone(), killed.clone());
        // Owned by this function: it waits for all of them, and ends those that outlast the grace.
        tokio::spawn(async move {
            match killed.run_until_cancelled(connection).await {
                Some(Err(error)) => tracing::debug!(%error, "an API connection ended"),
                Some(Ok(())) => {}
                None => tracing::debug!("an API connection outlasted the drain"),
            }
            metrics.connections_closed.inc();
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
        killed.cancel();
    }
    // Every connection gives its place back at its end.
    let all = u32::try_from(most.max).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// The next connection and its place; none when it is time to stop. A full house does not accept: callers wait in
/// the kernel's queue.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        match stop.run_until_cancelled(accept).await?? {
            (Ok((stream, _)), place) => {
                // Answers are small and whole; waiting for more to send would only delay them.
                let _ = stream.set_nodelay(true);
                return Some((stream, place));
            }
            (Err(error), _) => {
                if exhausted(&error) {
                    tracing::warn!(%error, "cannot accept API connections; trying again");
                    stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await?;
                } else {
                    tracing::debug!(%error, "a caller left before it was accepted");
                }
            }
        }
    }
}

/// Whether the error is of this process and not of the connection that was to be accepted.
fn exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
