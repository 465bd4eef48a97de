//! The most memory that a dispatcher's configuration allows.

use crate::{
    config::Config,
    port::{HEADS_BYTES, MAX_STREAMS, STREAM_WINDOW},
};

/// A connection besides its requests: its task, its TLS-free buffers of reading (16 KiB) and writing (4 KiB).
const CONNECTION_BYTES: usize = 24 << 10;
/// A room in the picture, its addresses and its place in the strategies, generously; and the most that are expected.
const ROOM_BYTES: usize = 4 << 10;
const ROOMS: usize = 1_000;
/// A network of a zone.
const NETWORK_BYTES: usize = 100;

/// What a connection can make the dispatcher hold: each of its requests has a head and a body of one window.
const PER_CONNECTION: usize =
    CONNECTION_BYTES + MAX_STREAMS as usize * (HEADS_BYTES as usize + STREAM_WINDOW as usize);

/// The formula of [`Config`], in bytes.
pub(crate) fn memory_bound(config: &Config) -> u64 {
    let connections = config.port.connections.saturating_mul(PER_CONNECTION);
    let known = ROOMS * ROOM_BYTES + config.zones.networks.len() * NETWORK_BYTES;
    connections.saturating_add(known) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_are_what_counts() {
        assert_eq!(PER_CONNECTION, 56 << 10, "what the documentation of the configuration says");
        let whole = memory_bound(&Config::default());
        assert!((400 << 20..600 << 20).contains(&whole), "{whole}");
        let mut less = Config::default();
        less.port.connections /= 10;
        assert!(memory_bound(&less) < whole / 9);
    }
}
