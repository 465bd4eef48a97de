//! One generation of certificates: read, judged, and made into what connections need.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use x509_parser::{extensions::GeneralName, prelude::*};

use super::{ALPN, TlsFiles, name_of};
use crate::Role;

/// Which of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// Certificates of the CA.
    Ca,
    /// The node's certificate.
    Cert,
    /// Its key.
    Key,
}

impl TlsFile {
    /// Its key in the configuration's section `[tls]`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Cert => "cert",
            Self::Key => "key",
        }
    }
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// The file that is to blame.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsError {
    pub(super) fn new(file: TlsFile, path: &Path, reason: impl fmt::Display) -> Self {
        Self { file, path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |file, path: &Path| std::fs::read(path).map_err(|e| TlsError::new(file, path, e));
        Ok(Self {
            ca: read(TlsFile::Ca, &files.ca)?,
            cert: read(TlsFile::Cert, &files.cert)?,
            key: read(TlsFile::Key, &files.key)?,
        })
    }
}

/// One generation of certificates.
pub(super) struct Material {
    pub(super) contents: Contents,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    /// Seconds since 1970.
    pub(super) expires_at: i64,
}

/// Keys are not for logs.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Material {
    /// Makes connections' configuration of the files' contents, or says which file is wrong, and why.
    pub(super) fn judge(contents: Contents, files: &TlsFiles, role: Option<Role>) -> Result<Self, TlsError> {
        let ca = |reason: String| TlsError::new(TlsFile::Ca, &files.ca, reason);
        let cert = |reason: String| TlsError::new(TlsFile::Cert, &files.cert, reason);

        let mut roots = RootCertStore::empty();
        for root in certificates(&contents.ca).map_err(ca)? {
            roots.add(root).map_err(|e| ca(format!("holds a certificate that is none of a CA: {e}")))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let own = Own::judge((&files.cert, &contents.cert), (&files.key, &contents.key), &provider)?;
        let Own { own, private, names, expires_at } = own;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| ca(e.to_string()))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| ca(e.to_string()))?;
        let (leaf, links) = own.cert.split_first().ok_or_else(|| cert("holds no certificate".to_owned()))?;
        let now = UnixTime::now();
        let unfit = |e: rustls::Error| cert(format!("is not valid under {}: {e}", files.ca.display()));
        clients.verify_client_cert(leaf, links, now).map_err(unfit)?;
        if let Some(role) = role {
            let name = name_of(role);
            if !names.contains(&name) {
                let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                return Err(cert(format!("is for {names}; a {role} needs one for {name}")));
            }
            let name = ServerName::try_from(name).map_err(|e| cert(e.to_string()))?;
            servers.verify_server_cert(leaf, links, &name, &[], now).map_err(unfit)?;
        }

        let (chain, versions) = (own.cert.clone(), [&TLS13]);
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .and_then(|b| {
                b.with_root_certificates(roots).with_client_auth_cert(chain.clone(), private.clone_key())
            })
            .map_err(|e| cert(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .and_then(|b| b.with_client_cert_verifier(clients).with_single_cert(chain, private))
            .map_err(|e| cert(e.to_string()))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Connections last for days: what a resumed handshake saves is nothing, and each connection proves itself anew.
        client.resumption = Resumption::disabled();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { contents, client: Arc::new(client), server: Arc::new(server), expires_at })
    }
}

/// A certificate and its key, which belong together.
pub(super) struct Own {
    pub(super) own: CertifiedKey,
    pub(super) private: PrivateKeyDer<'static>,
    /// Its DNS names.
    pub(super) names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub(super) expires_at: i64,
}

impl Own {
    /// Reads both, each given by its path and its contents, and proves that they belong together.
    pub(super) fn judge(
        (cert_path, cert_pem): (&Path, &[u8]),
        (key_path, key_pem): (&Path, &[u8]),
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let cert = |reason: String| TlsError::new(TlsFile::Cert, cert_path, reason);
        let key = |reason: String| TlsError::new(TlsFile::Key, key_path, reason);
        let chain = certificates(cert_pem).map_err(cert)?;
        let (names, expires_at) = describe(&chain[0]).map_err(cert)?;
        let private = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|e| key(format!("holds no private key as PEM: {e}")))?;
        let own = certified(chain, &private, provider).map_err(key)?;
        if own.keys_match().is_err() {
            return Err(key(format!("is not the key of {}", cert_path.display())));
        }
        Ok(Self { own, private, names, expires_at })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("holds no certificate as PEM".to_owned()),
        Ok(all) => Ok(all),
        Err(e) => Err(format!("is no PEM: {e}")),
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = provider.key_provider.load_private_key(key.clone_key());
    Ok(CertifiedKey::new(chain, key.map_err(|e| format!("holds a key that cannot be used: {e}"))?))
}

/// The DNS names of a certificate, and when it ends.
fn describe(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, x509) =
        X509Certificate::from_der(certificate).map_err(|e| format!("holds no X.509 certificate: {e}"))?;
    let names = x509.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok((names.collect(), x509.validity().not_after.timestamp()))
}
