//! The network connection under a session: TCP, then TLS, then the upgrade, as the transport has it.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use wire::{
    frame::CloseCode,
    ws::{
        Format,
        upgrade::{self, ROOM_COOKIE, Response, UpgradeError},
    },
};

use crate::{
    session::{Cause, Ending},
    tls::{Tls, TlsError},
    transport::{Framing, Transport},
};

/// A WebSocket that is refused without a word about the wait.
const SERVICE_UNAVAILABLE: u16 = 503;

pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// How a device connects.
#[derive(Clone)]
pub(super) struct Lines {
    pub(super) transport: Transport,
    /// There if the transport wants it.
    pub(super) tls: Option<Tls>,
    /// Path of the WebSocket.
    pub(super) path: Arc<str>,
    /// The cookie that names the room, and the address it is for: a balancer leads the next connection there too.
    pub(super) cookie: Option<(Arc<str>, String)>,
}

/// A connection that stands.
pub(super) struct Line {
    pub(super) stream: Stream,
    pub(super) framing: Framing,
    /// What came behind the answer to the upgrade.
    pub(super) begun: Vec<u8>,
    /// The cookie to bring the next time.
    pub(super) cookie: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The network, or a certificate that is not to be trusted.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The room's name.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No WebSocket.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl LineError {
    /// How the dialer is to take it, if the room has said when to come again.
    pub(super) fn ending(&self) -> Option<Ending> {
        let Self::Upgrade(UpgradeError::Status { status: SERVICE_UNAVAILABLE, retry_after_s }) = self else {
            return None;
        };
        let retry_after = Duration::from_secs(retry_after_s.unwrap_or_default().into());
        let cause = Cause::Closed { code: CloseCode::Busy, message: self.to_string() };
        Some(Ending { retry_after, ..cause.into() })
    }
}

impl Lines {
    /// Connects to `address`. May be cancelled.
    pub(super) async fn connect(self, address: Arc<str>) -> Result<Line, LineError> {
        let stream = TcpStream::connect(&*address).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm");
        }
        let mut stream = match &self.tls {
            None => Either::Left(stream),
            Some(tls) => {
                let (connector, name) = tls.connector(&address)?;
                Either::Right(connector.connect(name, stream).await?)
            }
        };
        let format = self.transport.format();
        let (begun, cookie) = match format {
            None => (Vec::new(), None),
            Some(format) => self.upgrade(&mut stream, format, &address).await?,
        };
        Ok(Line { stream, framing: Framing::new(format), begun, cookie })
    }

    /// Asks for a WebSocket; what came behind the answer, and the cookie that names the room.
    async fn upgrade(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        format: Format,
        address: &str,
    ) -> Result<(Vec<u8>, Option<String>), LineError> {
        let nonce = rand::random();
        let cookie = self.cookie.as_ref().filter(|(from, _)| **from == *address);
        let cookie = cookie.map(|(_, cookie)| cookie.as_str());
        let request = upgrade::request(address, &self.path, format, nonce, cookie);
        stream.write_all(&request).await?;
        let mut bytes = Vec::new();
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some((response, len)) = Response::parse(&bytes, format, nonce)? {
                let named = |cookie: &String| cookie.split('=').next() == Some(ROOM_COOKIE);
                bytes.drain(..len);
                return Ok((bytes, response.cookies.into_iter().find(named)));
            }
        }
    }
}
