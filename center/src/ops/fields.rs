//! The fields that several operations share, parsed into what cannot be wrong.

use std::time::Duration;

use bytes::Bytes;
use cluster::accepted_ms_of;
use wire::id::Uid;

use super::Ops;
use crate::error::{Error, Result};

/// When a message was accepted and until when it is of use, ms since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    pub(super) accepted_ms: u64,
    pub(super) expires_ms: u64,
}

impl Lifetime {
    /// That of a message with this id. It hangs on the id alone, so a repeat under an idempotency key says the same.
    pub(super) fn of(id: u64, ttl: Duration) -> Lifetime {
        Lifetime::from(id, accepted_ms_of(id), ttl)
    }

    /// That of one whose time to live begins later.
    pub(super) fn from(id: u64, starts_ms: u64, ttl: Duration) -> Lifetime {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Lifetime { accepted_ms: accepted_ms_of(id), expires_ms: starts_ms.saturating_add(ttl_ms) }
    }
}

/// A user's name.
pub(super) fn uid(text: &str) -> Result<Uid> {
    Uid::new(text).map_err(|e| Error::invalid("uid", e.to_string()))
}

impl Ops {
    /// Refuses a payload over the bound.
    pub(super) fn check_payload(&self, payload: &Bytes) -> Result<()> {
        let (actual, limit) = (payload.len(), self.config().payload_max_bytes);
        if actual > limit { Err(Error::PayloadTooLarge { actual, limit }) } else { Ok(()) }
    }

    /// The time to live that was asked for, or the app's default.
    pub(super) fn ttl(&self, asked: Option<u32>, default_s: u32) -> Result<Duration> {
        let max = self.config().ttl_max;
        match asked {
            Some(seconds) => within("ttl_s", Duration::from_secs(seconds.into()), max),
            // The app was made under another bound; its caller, who named no time, is not to blame.
            None => Ok(Duration::from_secs(default_s.into()).min(max)),
        }
    }
}

/// A duration of at least a second and at most `max`.
pub(super) fn within(field: &'static str, asked: Duration, max: Duration) -> Result<Duration> {
    if asked >= Duration::from_secs(1) && asked <= max {
        return Ok(asked);
    }
    Err(Error::invalid(field, format!("is {}; it must be 1 to {}", asked.as_secs(), max.as_secs())))
}
