//! Connections to other nodes over TLS.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{io::AsyncBufReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};
use tracing::{debug, warn};

use super::{Sometimes, Tls, name_of, peer_error};
use crate::Role;

/// Connects to one address and proves that a node of the role is there. Each connection is made with the certificates of
/// its time.
#[derive(Clone)]
pub(crate) struct Connector {
    address: Arc<str>,
    role: Role,
    name: ServerName<'static>,
    tls: Tls,
    warned: Arc<Sometimes>,
}

impl Connector {
    pub(crate) fn new(address: &str, role: Role, tls: Tls) -> Self {
        let name = ServerName::try_from(name_of(role)).expect("a role's word and a domain are a DNS name");
        Self { address: address.into(), role, name, tls, warned: Arc::default() }
    }

    async fn connect(self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        let client = self.tls.present().client.clone();
        let shaken = async {
            let mut stream = TlsConnector::from(client).connect(self.name.clone(), stream).await?;
            // In TLS 1.3 a server judges our certificate after we are done. An HTTP/2 server speaks first: with its
            // first bytes it has taken us, and a refusal becomes the reason why there is no connection.
            if stream.fill_buf().await?.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(stream)
        };
        shaken.await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> io::Error {
        self.tls.shared.failed_connects.fetch_add(1, Ordering::Relaxed);
        let (role, address) = (self.role, &*self.address);
        let Some(reason) = peer_error(&error) else {
            debug!(%role, address, %error, "the connection broke in its handshake");
            return error;
        };
        if self.warned.due() {
            warn!(%role, address, reason, "no trust in a node");
        } else {
            debug!(%role, address, reason, "no trust in a node");
        }
        io::Error::other(format!("{role} at {address}: {reason}"))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connect = self.clone().connect();
        Box::pin(async move { connect.await.map(TokioIo::new) })
    }
}
