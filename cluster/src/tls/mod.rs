//! How the nodes trust each other: every connection between them is TLS 1.3, and both ends show a certificate of the
//! cluster's CA. A node's certificate names its role (`room.longwire.internal`), and a client checks the name of the role
//! that it calls: addresses may change, and a stolen certificate of a dispatcher does not make a saver.

mod connect;
mod follow;
mod material;
mod peer_error;
mod public;
mod sometimes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::ServerConfig;
use tokio::sync::watch;

pub(crate) use connect::Connector;
use material::{Contents, Material};
pub use material::{TlsError, TlsFile};
pub use peer_error::peer_error;
pub use public::{PublicFiles, PublicTls};
pub use sometimes::Sometimes;

use crate::Role;

/// Below it are the names in the certificates of nodes. It never has to resolve.
const DOMAIN: &str = "longwire.internal";
/// What both ends speak inside TLS: gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";

/// The name that the certificate of a role's nodes must hold, `<role>.longwire.internal`.
pub fn name_of(role: Role) -> String {
    format!("{role}.{DOMAIN}")
}

/// Where a node's certificates are, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CA.
    pub ca: PathBuf,
    /// The node's certificate, and what links it to the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The certificates of this node as they are now: each new connection takes the present ones. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    role: Option<Role>,
    present: RwLock<Arc<Material>>,
    reloads: watch::Sender<u64>,
    refusals: AtomicU64,
    failed_connects: AtomicU64,
}

impl Tls {
    /// Reads the files and proves that they belong together, are valid now, and, for a node, name its `role`; the
    /// certificate of an operator needs no role.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(files: TlsFiles, role: Option<Role>) -> Result<Self, TlsError> {
        let material = Material::judge(Contents::read(&files)?, &files, role)?;
        Ok(Self {
            shared: Arc::new(Shared {
                files,
                role,
                present: RwLock::new(Arc::new(material)),
                reloads: watch::Sender::new(0),
                refusals: AtomicU64::new(0),
                failed_connects: AtomicU64::new(0),
            }),
        })
    }

    /// What a server accepts the next connection with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.present().server.clone()
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.present().expires_at
    }

    /// Counts how often new files were taken. Who keeps the text of the files by itself reads them again then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.reloads.subscribe()
    }

    /// How often changed files were refused.
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// How many connections to other nodes failed in their handshake.
    pub fn failed_connects(&self) -> u64 {
        self.shared.failed_connects.load(Ordering::Relaxed)
    }

    /// Where the files are.
    pub fn files(&self) -> &TlsFiles {
        &self.shared.files
    }

    fn present(&self) -> Arc<Material> {
        self.shared.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn use_from_now_on(&self, material: Material) {
        *self.shared.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        self.shared.reloads.send_modify(|n| *n += 1);
    }
}
