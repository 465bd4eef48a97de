//! Whom devices trust, and the tickets with which they come back.

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::fleet::line::{LineSpec, Trust};

/// Tickets kept, the newest. Each connection brings new ones, so a storm of any size resumes with as many as come and
/// go between two turns of the loop; a ticket takes about 1 KB.
const TICKETS: usize = 4096;

/// What all TLS connections of a worker share.
pub(in crate::fleet::event_loop) struct Client {
    /// For a device's first connection: keeps tickets and uses none, as on the first day.
    first: Arc<ClientConfig>,
    /// For those that come back.
    again: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Client {
    /// `None` where no device needs it.
    pub(in crate::fleet::event_loop) fn new(line: &LineSpec) -> anyhow::Result<Option<Self>> {
        if !line.transports.has_tls() {
            return Ok(None);
        }
        let name = line.server_name.clone();
        let name = name.map(|name| ServerName::try_from(name).context("--server-name")).transpose()?;
        let tickets = Arc::new(Mutex::new(VecDeque::new()));
        let config = |uses| -> anyhow::Result<_> {
            let mut config = configure(&line.trust)?;
            config.resumption = Resumption::store(Arc::new(Tickets { all: tickets.clone(), uses }));
            Ok(Arc::new(config))
        };
        Ok(Some(Self { first: config(false)?, again: config(true)?, name }))
    }

    /// Configuration and name for a connection to `address`.
    pub(in crate::fleet::event_loop) fn connect(
        &self,
        address: SocketAddr,
        is_first: bool,
    ) -> (Arc<ClientConfig>, ServerName<'static>) {
        let config = if is_first { &self.first } else { &self.again };
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        (config.clone(), name)
    }
}

fn configure(trust: &Trust) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Nobody => bail!("a transport with TLS needs certificates to trust"),
        Trust::Ca(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        Trust::Anybody => {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
    };
    Ok(config)
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let pem = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.with_context(|| format!("{}", path.display()))?)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", path.display());
    Ok(roots)
}

/// The newest tickets of all devices of a worker. A ticket serves any device here: what is measured is how a storm
/// that resumes weighs on the room, and a store for each device would weigh more than the device.
#[derive(Debug)]
struct Tickets {
    all: Arc<Mutex<VecDeque<Tls13ClientSessionValue>>>,
    uses: bool,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == TICKETS {
            all.pop_front();
        }
        all.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.uses {
            return None;
        }
        self.all.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }
}

/// Takes any certificate, and still checks that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
