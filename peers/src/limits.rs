//! Bounds of the calls to other nodes.

use std::time::Duration;

use flow::{Backoff, BatchLimits};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// The most that a client accepts as one answer. A batch of loads is packed so that what it may return stays
/// under [`LOAD_BATCH_BYTES`]; the rest is room for one inbox that alone is larger.
pub(crate) const MAX_ANSWER_BYTES: usize = 32 << 20;
/// What the answers to one batch of loads may hold in payloads: large enough that hundreds of small inboxes share
/// a batch, small enough that no batch keeps others waiting for long.
pub(crate) const LOAD_BATCH_BYTES: usize = 8 << 20;

/// A gRPC server takes messages of 4 MiB; the rest is for names and framing.
const MAX_BATCH_BYTES: usize = 3 << 20;

/// Bounds of the calls to one role of peers. As a config section every key is optional.
///
/// Worst-case memory for each peer node and kind of call: `queue_items` waiting, and `in_flight` batches of
/// `batch_bytes` being sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls of one kind that may wait for one node; more are refused as full. Items. At 25,000 calls a second the
    /// default is a third of a second of stall.
    #[serde(deserialize_with = "positive")]
    pub queue_items: usize,
    /// Calls in one batch at most. Items.
    #[serde(deserialize_with = "positive")]
    pub batch_items: usize,
    /// Payload in one batch at most (one larger call goes by itself). Bytes, at most 3 MiB.
    #[serde(deserialize_with = "batch_bytes")]
    pub batch_bytes: usize,
    /// Batches of one kind under way to one node. While fewer are, a call is sent at once.
    #[serde(deserialize_with = "positive")]
    pub in_flight: usize,
    /// Calls of the rarer kinds, which are not batched, under way to one node; more are refused as full.
    #[serde(deserialize_with = "positive")]
    pub control_calls: usize,
    /// After this an answer to a batch is not waited for any longer.
    #[serde(with = "humantime_serde")]
    pub rpc_timeout: Duration,
    /// A call with all its retries takes no longer than this.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// First wait before a retry (with full jitter; it doubles with each).
    #[serde(with = "humantime_serde")]
    pub retry_initial: Duration,
    /// Longest wait before a retry.
    #[serde(with = "humantime_serde")]
    pub retry_cap: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_items: 8192,
            batch_items: 512,
            batch_bytes: 1 << 20,
            in_flight: 4,
            control_calls: 64,
            rpc_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
            retry_initial: Duration::from_millis(50),
            retry_cap: Duration::from_secs(1),
        }
    }
}

impl Limits {
    pub(crate) fn batch(&self) -> BatchLimits {
        BatchLimits {
            queue_items: self.queue_items,
            batch_items: self.batch_items,
            in_flight: self.in_flight,
        }
    }

    /// One batch at a time, so that items arrive in the order in which they were queued.
    pub(crate) fn ordered(&self) -> BatchLimits {
        BatchLimits { in_flight: 1, ..self.batch() }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::full_jitter(self.retry_initial, self.retry_cap)
    }
}

fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(from)?;
    if number == 0 { Err(D::Error::custom("must be at least 1")) } else { Ok(number) }
}

fn batch_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let number = positive(from)?;
    if number > MAX_BATCH_BYTES {
        return Err(D::Error::custom(format_args!("must be at most {MAX_BATCH_BYTES}, what a peer takes")));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_config_section() {
        let limits: Limits = toml::from_str("in_flight = 8\ndeadline = \"3s\"").unwrap();
        assert_eq!(limits, Limits { in_flight: 8, deadline: Duration::from_secs(3), ..Limits::default() });
        for bad in ["inflight = 8", "in_flight = 0", "batch_bytes = 9000000", "deadline = 3"] {
            assert!(toml::from_str::<Limits>(bad).is_err(), "{bad}");
        }
    }
}
