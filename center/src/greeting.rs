//! Connections that have yet to say which protocol they speak. The server tells HTTP/2 from HTTP/1 by the first bytes, and
//! only then do its time-outs begin: who sends none, or a part of HTTP/2's preface, would hold a place for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

use crate::limits::{Budget, Held};

/// Connections that may speak HTTP/2, and those that were refused. A connection of HTTP/2 may have a whole window of bytes
/// waiting here that nobody has asked for, so there are fewer places for them than for others.
#[derive(Clone, Debug)]
pub(crate) struct Http2Places {
    pub(crate) places: Budget,
    pub(crate) refused: Counter,
}

/// A stream that fails unless it has told its protocol in time.
pub(crate) struct Greeting<S> {
    stream: S,
    /// Bytes of the preface that have come.
    seen: usize,
    /// None once the protocol is known.
    by: Option<Pin<Box<Sleep>>>,
    http2: Http2Places,
    _place: Option<Held>,
}

impl<S> Greeting<S> {
    pub(crate) fn within(patience: Duration, stream: S, http2: Http2Places) -> Greeting<S> {
        let by = Some(Box::pin(tokio::time::sleep(patience)));
        Greeting { stream, seen: 0, by, http2, _place: None }
    }

    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let expected = &PREFACE[self.seen..];
        let both = bytes.len().min(expected.len());
        let same = bytes[..both] == expected[..both];
        if both == expected.len() || !same {
            self.by = None;
        }
        self.seen += both;
        if same && self.seen == PREFACE.len() {
            let Ok(place) = self.http2.places.take(1) else {
                self.http2.refused.inc();
                return Err(io::Error::other("too many connections of HTTP/2"));
            };
            self._place = Some(place);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(by) = &mut self.by else { return polled };
        if polled.is_pending() {
            ready!(by.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.look_at(&buf.filled()[before..])?;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn places(limit: usize) -> Http2Places {
        Http2Places { places: Budget::new("connections", limit), refused: Counter::default() }
    }

    /// Every connection of HTTP/2 could make the center hold eight megabytes, and there were places for four thousand.
    #[tokio::test]
    async fn connections_of_http2_have_places_of_their_own() {
        let http2 = places(1);
        let read = async |said: &[u8]| {
            let (mut caller, server) = tokio::io::duplex(100);
            let mut server = Greeting::within(PATIENCE, server, http2.clone());
            caller.write_all(said).await.unwrap();
            (server.read(&mut [0; 100]).await.is_ok(), server)
        };
        let (first, held) = read(PREFACE).await;
        assert!(first);
        let http1 = b"POST /v1/push HTTP/1.1\r\nhost: x\r\n\r\n";
        assert!(!read(PREFACE).await.0 && read(http1).await.0, "those of HTTP/1 are not meant");
        assert_eq!(http2.refused.get(), 1);
        drop(held);
        assert!(read(PREFACE).await.0, "its place is free again");
    }

    /// Reads what was said and then once more: how that ended, if it did within a minute.
    async fn after(said: &[&str]) -> Option<io::ErrorKind> {
        let (mut caller, server) = tokio::io::duplex(100);
        let mut server = Greeting::within(PATIENCE, server, places(1));
        let mut buffer = [0; 100];
        for part in said {
            caller.write_all(part.as_bytes()).await.unwrap();
            assert_eq!(server.read(&mut buffer).await.unwrap(), part.len());
        }
        let ended = tokio::time::timeout(6 * PATIENCE, server.read(&mut buffer)).await;
        ended.ok().map(|read| read.unwrap_err().kind())
    }

    /// A few thousand connections that said nothing, or only "PRI", shut everybody else out of the API until the center
    /// was restarted.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_he_speaks_is_cut_off() {
        for said in [&[][..], &["PRI"], &["PRI", " * HTTP/2.0"]] {
            assert_eq!(after(said).await, Some(io::ErrorKind::TimedOut), "{said:?}");
        }
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for said in [&["G"][..], &["PRI", "X"], &["PRI ", &preface[4..]], &[preface]] {
            assert_eq!(after(said).await, None, "{said:?}: the server has time-outs of its own for these");
        }
    }
}
