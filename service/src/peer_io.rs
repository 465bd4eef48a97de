//! A connection of another node, with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// A connection that gRPC is served on.
pub(crate) struct PeerIo {
    inner: Inner,
    _open: Option<Open>,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Counts the end.
struct Open(Counter);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inc();
    }
}

impl PeerIo {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { inner: Inner::Plain(stream), _open: None }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { inner: Inner::Tls(Box::new(stream)), _open: None }
    }

    pub(crate) fn counted(self, opened: &Counter, closed: &Counter) -> Self {
        opened.inc();
        Self { _open: Some(Open(closed.clone())), ..self }
    }
}

/// gRPC's own information on a connection is of no use to the services.
impl Connected for PeerIo {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for PeerIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// HTTP/2's way to say that a connection is not secure as it should be.
const INADEQUATE_SECURITY: u32 = 0xc;
/// For the peer to read why, and close.
const LINGER: Duration = Duration::from_secs(1);
/// What a peer sends before it has read why: its first frames, or a TLS hello.
const LINGER_BYTES: u64 = 64 << 10;

/// Ends a connection with a reason that the peer's HTTP/2 can read. To a TLS peer the same bytes are the sign that nobody
/// speaks TLS here.
pub(crate) async fn turn_away(mut stream: TcpStream, reason: &str) {
    let said = async {
        stream.write_all(&goaway(reason)).await?;
        stream.shutdown().await?;
        // A socket that is closed with bytes unread resets the connection, and the peer may lose what it was told.
        let mut rest = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whether the peer listened or not, it is gone now.
    let _ = timeout(LINGER, said).await;
}

/// Empty settings, which must come first, and GOAWAY (RFC 9113, sections 6.5 and 6.8).
fn goaway(reason: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Reasons are our own few words.
    let length = u8::try_from(8 + reason.len()).unwrap_or(8);
    bytes.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(INADEQUATE_SECURITY.to_be_bytes());
    if length > 8 {
        bytes.extend(reason.as_bytes());
    }
    bytes
}
