//! Calls that may be repeated: the first use of an idempotency key ties it to a message id, and a repeat goes on
//! with that id. So a caller that got no answer asks again and does no harm.

use proto::internal::{App, ReserveRequest, ReserveResponse};
use sha2::{Digest as _, Sha256};

use super::Ops;
use crate::error::{Error, Result};

/// Longest key, bytes: holds a UUID, a hash, or two of them with a prefix.
const KEY_MAX: usize = 128;

/// The id under which a message is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub(super) id: u64,
    /// An earlier call took the key.
    pub(super) repeated: bool,
}

/// What a request asks for, in a form that can be compared. Every part is preceded by its length, so that no two
/// requests look alike.
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(super) fn of(operation: &str) -> Fingerprint {
        Fingerprint(Sha256::new()).and(operation.as_bytes())
    }

    #[must_use]
    pub(super) fn and(mut self, part: &[u8]) -> Fingerprint {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    #[must_use]
    pub(super) fn and_ttl(self, ttl_s: Option<u32>) -> Fingerprint {
        match ttl_s {
            Some(ttl_s) => self.and(&ttl_s.to_le_bytes()),
            None => self.and(b""),
        }
    }
}

impl Ops {
    /// The id for a new message, or the one that the key is tied to.
    pub(super) async fn reserve(&self, app: &App, key: String, fingerprint: Fingerprint) -> Result<Reserved> {
        let id = self.ids.next();
        if key.len() > KEY_MAX {
            let message = format!("has {} bytes; it must have 1 to {KEY_MAX}", key.len());
            return Err(Error::invalid("idempotency_key", message));
        }
        let window = u64::try_from(self.config().idempotency_window.as_millis()).unwrap_or(u64::MAX);
        let request = ReserveRequest {
            app: app.id,
            key,
            id,
            fingerprint: fingerprint.0.finalize().to_vec().into(),
            expires_ms: cluster::now_ms().saturating_add(window),
            durability: app.durability,
        };
        let ReserveResponse { id, repeated, mismatch, .. } = self.peers.savers.reserve(request).await?;
        if mismatch { Err(Error::KeyReused) } else { Ok(Reserved { id, repeated }) }
    }
}

/// A transient message leaves nothing behind that a repeat could be answered from.
pub(super) fn refuse_for_transient(key: &str) -> Result<()> {
    if key.is_empty() {
        return Ok(());
    }
    let message =
        "a transient message is not stored, so a repeat could not be told from the first: leave the key out";
    Err(Error::invalid("idempotency_key", message))
}
