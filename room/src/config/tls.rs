//! The certificate that devices see.

use std::path::PathBuf;

use cluster::{PublicFiles, PublicTls};
use serde::{Deserialize, Serialize};
use service::StartError;

/// The section `[room.tls]`: TLS 1.2 and 1.3 on the room's port, beside what is not encrypted. A connection with TLS that rests
/// takes about 3.5 KiB more than one without. In the room's bound of memory 6 KiB count for each of `connections_max`, and 16 KiB for
/// each of `admission.handshakes_in_progress`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and what links it to a CA that devices know; PEM. Changed files are taken into use within some
    /// seconds, for connections that come then.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whether devices get a ticket that lets them resume with less work, as they do after a room has gone. The keys of the
    /// tickets change every six hours and are not stored. Default true.
    #[serde(default = "yes")]
    pub tickets: bool,
}

fn yes() -> bool {
    true
}

impl TlsConfig {
    /// Reads the files.
    pub(crate) fn open(&self) -> Result<PublicTls, StartError> {
        let files = PublicFiles { cert: self.cert.clone(), key: self.key.clone() };
        let opened = PublicTls::open(files, self.tickets);
        opened.map_err(|error| StartError::config(format!("room.tls.{}", error.file.as_str()), error))
    }
}
