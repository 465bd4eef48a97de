//! Mutual TLS towards rooms, as the services have it among themselves.

use std::{
    io,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, ensure};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

/// The name that the certificates of rooms hold.
const ROOM: &str = "room.longwire.internal";

/// Connects to one address and proves that a room is there.
#[derive(Clone)]
pub(crate) struct Connector {
    address: Arc<str>,
    name: ServerName<'static>,
    client: Arc<ClientConfig>,
}

impl Connector {
    pub(crate) fn new(ca: &Path, cert: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).with_context(|| format!("{}", ca.display()))?;
        }
        let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading {}", key.display()))?;
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(cert)?, key)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address: "".into(), name: ServerName::try_from(ROOM)?, client: Arc::new(client) })
    }

    /// The same for an address.
    pub(crate) fn to(&self, address: &str) -> Self {
        Self { address: address.into(), ..self.clone() }
    }

    async fn connect(self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.client).connect(self.name, stream).await
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading {}", path.display()))?;
    ensure!(!all.is_empty(), "{} holds no certificate", path.display());
    Ok(all)
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
