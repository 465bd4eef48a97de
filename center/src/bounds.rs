//! The most memory that a center's configuration allows.

use crate::{
    config::Config,
    delivery::{URGENT_PART, crowd},
    notices::{QUEUE, TELLING},
    ops::CHUNK_USERS,
    server::{HEAD_BYTES, HTTP1_BYTES, HTTP2_WINDOW},
};

/// A connection's task, and its buffers of HTTP/1 for what comes and what goes.
const CONNECTION_BYTES: usize = (8 << 10) + 2 * HTTP1_BYTES;
/// One of HTTP/2 has a window and frames instead.
const HTTP2_BYTES: usize = HTTP2_WINDOW as usize + (64 << 10);
/// A request under way: its head, and the states of what it waits for.
const REQUEST_BYTES: usize = HEAD_BYTES as usize + (8 << 10);
/// A body is there as it came, as it was read, and in a batch to its saver.
const COPIES: usize = 3;
/// A key in one of the two caches, with its scopes.
const KEY_BYTES: usize = 256;
/// Broadcasts that wait for the rooms, or are being told.
const NOTICES: usize = QUEUE + TELLING;
/// Lists of users on their way to the rooms: of both priorities, waiting and in hand.
const CROWDS: usize = 2 * crowd::WAITING + crowd::AT_ONCE + 1;
/// A user of one, with the longest name.
const CROWD_USER_BYTES: usize = 256;
/// Apps, their rates, and what the directory holds of them: a thousand of 4 KiB.
const APPS_BYTES: usize = 4 << 20;

/// The formula of [`Config`], in bytes.
pub(crate) fn memory_bound(config: &Config) -> u64 {
    let parts = [
        config.connections_max.saturating_mul(CONNECTION_BYTES),
        config.http2_connections_max.saturating_mul(HTTP2_BYTES),
        config.requests_in_flight.saturating_mul(REQUEST_BYTES),
        config.body_bytes_in_flight.saturating_mul(COPIES),
        // As they wait, and in a batch to their room; what is urgent has a part more.
        config.delivery.queue_bytes.saturating_mul(2),
        (config.delivery.queue_bytes / URGENT_PART).saturating_mul(2),
        // As they wait, in the look-up and in a batch to their room.
        CROWDS.saturating_mul(3).saturating_mul(config.payload_max_bytes + CHUNK_USERS * CROWD_USER_BYTES),
        NOTICES.saturating_mul(2).saturating_mul(config.payload_max_bytes),
        config.broadcasts.jobs_max.saturating_mul(config.payload_max_bytes),
        config.auth.cached_keys.saturating_mul(2 * KEY_BYTES),
        APPS_BYTES,
    ];
    parts.into_iter().fold(0, |sum: u64, part| sum.saturating_add(part as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_stay_within_what_their_documentation_says() {
        assert_eq!(memory_bound(&Config::default()) >> 20, 767, "MiB");
    }

    #[test]
    fn every_bound_counts() {
        let all = memory_bound(&Config::default());
        let less = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            all - memory_bound(&config)
        };
        assert_eq!(less(|c| c.body_bytes_in_flight -= 1 << 20), 3 << 20);
        assert_eq!(less(|c| c.delivery.queue_bytes -= 1 << 20), (2 << 20) + (1 << 19));
        assert_eq!(less(|c| c.requests_in_flight -= 1), 16 << 10);
        assert_eq!(less(|c| c.connections_max -= 1), 40 << 10);
        assert_eq!(less(|c| c.http2_connections_max -= 1), 320 << 10);
    }
}
