//! A certificate for whoever comes from outside and shows none: devices.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::UnixTime,
    server::{NoServerSessionStorage, ProducesTickets},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    TlsError, TlsFile,
    follow::{Followed, follow},
    material::Own,
};

/// Where the certificate is, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicFiles {
    /// The certificate, and what links it to a CA that devices know.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A public certificate as it is now: each new connection takes the present one. TLS 1.2 and 1.3; no ALPN. Clones share it.
#[derive(Clone)]
pub struct PublicTls {
    shared: Arc<Shared>,
}

struct Shared {
    files: PublicFiles,
    /// Seals what a device needs to come again with less work. It outlives certificates, and changes its keys by itself.
    tickets: Option<Arc<dyn ProducesTickets>>,
    present: RwLock<Arc<Material>>,
    reloads: AtomicU64,
    refusals: AtomicU64,
}

/// One generation.
struct Material {
    contents: Contents,
    server: Arc<ServerConfig>,
    expires_at: i64,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl PublicTls {
    /// Reads the files and proves that they belong together. With `tickets`, devices may resume: a ticket of some hours
    /// saves the exchange of certificates and the signature, and costs the server no memory.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(files: PublicFiles, tickets: bool) -> Result<Self, TlsError> {
        let tickets = if tickets {
            let made = ring::Ticketer::new();
            Some(made.map_err(|e| TlsError::new(TlsFile::Key, &files.key, format!("no tickets: {e}")))?)
        } else {
            None
        };
        let material = Material::judge(Contents::read(&files)?, &files, tickets.clone())?;
        Ok(Self {
            shared: Arc::new(Shared {
                files,
                tickets,
                present: RwLock::new(Arc::new(material)),
                reloads: AtomicU64::new(0),
                refusals: AtomicU64::new(0),
            }),
        })
    }

    /// What a server accepts the next connection with.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.present().server)
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.present().expires_at
    }

    /// How often new files were taken.
    pub fn reloads(&self) -> u64 {
        self.shared.reloads.load(Ordering::Relaxed)
    }

    /// How often changed files were refused.
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Takes new files into use when they change, until `cancel`. `asked` counts the times that an operator said "now".
    /// Files that are not fit are refused with a warning, and the old certificate stays.
    pub async fn follow(self, asked: watch::Receiver<u64>, cancel: CancellationToken) {
        follow(self, asked, cancel).await;
    }

    fn present(&self) -> Arc<Material> {
        Arc::clone(&self.shared.present.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for PublicTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicTls").field("files", &self.shared.files).finish_non_exhaustive()
    }
}

impl Followed for PublicTls {
    type Contents = Contents;

    fn read(&self) -> Result<Contents, TlsError> {
        Contents::read(&self.shared.files)
    }

    fn is_present(&self, contents: &Contents) -> bool {
        *contents == self.present().contents
    }

    fn take(&self, contents: Contents) -> Result<(), TlsError> {
        let material = Material::judge(contents, &self.shared.files, self.shared.tickets.clone())?;
        *self.shared.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        self.shared.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn count_refusal(&self) {
        self.shared.refusals.fetch_add(1, Ordering::Relaxed);
    }

    fn expires_at(&self) -> i64 {
        self.expires_at()
    }
}

impl Contents {
    fn read(files: &PublicFiles) -> Result<Self, TlsError> {
        let read = |file, path: &Path| std::fs::read(path).map_err(|e| TlsError::new(file, path, e));
        Ok(Self { cert: read(TlsFile::Cert, &files.cert)?, key: read(TlsFile::Key, &files.key)? })
    }
}

impl Material {
    fn judge(
        contents: Contents,
        files: &PublicFiles,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Self, TlsError> {
        let cert = |reason: String| TlsError::new(TlsFile::Cert, &files.cert, reason);
        let provider = Arc::new(ring::default_provider());
        let own = Own::judge((&files.cert, &contents.cert), (&files.key, &contents.key), &provider)?;
        let Own { own, private, expires_at, .. } = own;
        // No device would take it, so the one in use is better.
        if u64::try_from(expires_at).is_ok_and(|end| end <= UnixTime::now().as_secs()) {
            return Err(cert("has expired".to_owned()));
        }
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(own.cert.clone(), private))
            .map_err(|e| cert(e.to_string()))?;
        // Sessions that the server would have to remember are not begun: a storm would throw each other's out.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = usize::from(tickets.is_some());
        if let Some(tickets) = tickets {
            server.ticketer = tickets;
        }
        Ok(Self { contents, server: Arc::new(server), expires_at })
    }
}
