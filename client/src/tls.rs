//! Whom a device trusts, when it connects within TLS.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Why a device cannot connect within TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates of the authority.
    #[error("these are no certificates in PEM: {0}")]
    BadRoots(String),
    /// The name to be proved.
    #[error("{0:?} is no name of a server")]
    BadName(String),
    /// What TLS itself says, or the platform about the authorities that it trusts.
    #[error("cannot set TLS up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Whom a device trusts. Cheap to clone; clones share what lets the next connection resume the session of an earlier one,
/// which saves a round trip and most of the computation.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// Trusts whom the platform trusts.
    ///
    /// # Errors
    /// [`TlsError::Setup`] if the platform tells nobody.
    pub fn platform() -> Result<Self, TlsError> {
        let config = builder()?.with_platform_verifier()?.with_no_client_auth();
        Ok(Self { config: config.into(), name: None })
    }

    /// Trusts these authorities (certificates in PEM) and nobody else: for development, and for rooms with an authority
    /// of their own.
    ///
    /// # Errors
    /// [`TlsError::BadRoots`]
    pub fn with_roots(pem: &[u8]) -> Result<Self, TlsError> {
        let bad = |reason: &dyn fmt::Display| TlsError::BadRoots(reason.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
        }
        if roots.is_empty() {
            return Err(bad(&"there is none"));
        }
        let config = builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: config.into(), name: None })
    }

    /// Has the room prove this name instead of the host that is connected to.
    ///
    /// # Errors
    /// [`TlsError::BadName`]
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        self.name = Some(parse_name(name)?);
        Ok(self)
    }

    /// What a connection to `address` (`host:port`) needs.
    pub(crate) fn connector(
        &self,
        address: &str,
    ) -> Result<(tokio_rustls::TlsConnector, ServerName<'static>), TlsError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => parse_name(host(address))?,
        };
        Ok((self.config.clone().into(), name))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The default of rustls: TLS 1.2 and 1.3, with sessions kept in memory so that they can be resumed.
fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName(name.to_owned()))
}

/// The host of `host:port`; an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        for (address, expected) in
            [("h.example:1", "h.example"), ("[::1]:7410", "::1"), ("10.0.0.1:1", "10.0.0.1")]
        {
            assert_eq!(host(address), expected);
            assert!(parse_name(host(address)).is_ok());
        }
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        assert!(matches!(Tls::with_roots(b"hello"), Err(TlsError::BadRoots(_))));
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Tls::with_roots(pem), Err(TlsError::BadRoots(_))));
        assert!(parse_name("a b").is_err());
    }
}
