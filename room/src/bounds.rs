//! The most memory that a room's configuration allows.

use wire::limits::{MAX_SERVER_FRAME, MAX_TAG_BYTES, MAX_TAGS, MAX_TOKEN_BYTES};

use crate::{
    admission::{ADDRESS_BYTES, Admission},
    config::Config,
};

/// A connection with its socket, its place in the timer wheel and, while something waits for it, the head of its backlog.
const CONNECTION_BYTES: usize = 256;
/// What TLS adds to a connection at rest: keys and the state of `rustls`; 3.5 KiB were measured.
const TLS_BYTES: usize = 6 << 10;
/// And to a connection in its handshake: messages of both sides, keys of its own, the transcript.
const HANDSHAKE_BYTES: usize = 16 << 10;
/// A connection without a socket: its struct, its empty place among the sockets, its places in the timer wheel.
const GHOST_BYTES: usize = 96;
/// A binding: its struct, its user's name, its places in the indexes, the numbers of its tags.
const BINDING_BYTES: usize = 384;
/// Apps that are reckoned with: those that broadcast have a tail in each thread, and tags.
const APPS: usize = 16;
const TAG_BYTES: usize = 250;
/// What is known of an app's log in a thread besides its tail: for whom entries were, who was passed over, samples of acks.
const LEDGER_BYTES: usize = 8 << 20;
/// A thread's buffers: one read, what is staged in one turn, its events, orders that wait for it.
const THREAD_BYTES: usize = 8 << 20;
/// Binds that a thread has asked for and nobody has begun: 8,192 in the thread and 16 batches of 512.
const BINDS_WAITING: usize = 8_192 + 16 * 512;
/// With token and tags.
const BIND_BYTES: usize = 512 + MAX_TOKEN_BYTES + MAX_TAGS * (24 + MAX_TAG_BYTES);
/// A message of a page besides its payload.
const MESSAGE_BYTES: usize = 64;
/// Acks, ends, state events and renewals that wait, of all kinds.
const NOTE_BYTES: usize = 512;
/// A network of a list, as text was read and as a range.
const NETWORK_BYTES: usize = 64;
/// Sessions that registers have to be told again, and ends for them.
const LATE: usize = 8_192;

/// The formula of [`Config`], in bytes.
pub(crate) fn memory_bound(config: &Config) -> u64 {
    let work = &config.work;
    let page = (work.page_bytes as usize).saturating_add(work.page_messages as usize * MESSAGE_BYTES);
    // Pages are on their way here, and in orders for the thread.
    let pages = 2 * (work.binds + work.loads) * page;
    let waiting = BINDS_WAITING * BIND_BYTES + 2 * work.up_bytes + (work.acks + work.ends) * NOTE_BYTES;
    let tails = APPS
        * (config.log_bytes.saturating_add(MAX_SERVER_FRAME)
            + config.tags_per_app * TAG_BYTES
            + LEDGER_BYTES);
    let admission = &config.admission;
    let counted =
        if admission.counts_addresses() { Admission::addresses_max(config.connections_max) } else { 0 };
    let parts = [
        config.connections_max.saturating_mul(CONNECTION_BYTES),
        tls(config),
        config.ghosts().saturating_mul(GHOST_BYTES),
        config.bindings_max.saturating_mul(BINDING_BYTES),
        config.partial_bytes_total,
        config.queued_bytes_total,
        config.threads.saturating_mul(THREAD_BYTES + pages + waiting + tails),
        (work.events + LATE) * NOTE_BYTES,
        // The newest broadcasts, for all threads.
        APPS * config.log_bytes,
        (admission.allow.len() + admission.deny.len()) * NETWORK_BYTES + counted * ADDRESS_BYTES,
    ];
    parts.into_iter().fold(0, |sum: u64, part| sum.saturating_add(part as u64))
}

/// What TLS may take besides.
fn tls(config: &Config) -> usize {
    if config.tls.is_none() {
        return 0;
    }
    let handshakes = config.connections_max.min(config.admission.handshakes_in_progress as usize);
    config.connections_max.saturating_mul(TLS_BYTES).saturating_add(handshakes * HANDSHAKE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_goes_with_the_devices_that_may_come() {
        let million = memory_bound(&Config { threads: 1, ..Config::default() });
        assert_eq!(million >> 20, 3_060, "MiB, what the documentation of the configuration says");
        let small = Config {
            connections_max: 20_000,
            bindings_max: 40_000,
            queued_bytes_total: 64 << 20,
            partial_bytes_total: 16 << 20,
            ..Config::default()
        };
        let small = Config { threads: 1, ..small };
        let two = memory_bound(&Config { threads: 2, ..Config::default() });
        assert_eq!(two.abs_diff(million) >> 20, 636, "MiB for each thread");
        assert!(memory_bound(&small) < 1 << 30, "{}", memory_bound(&small) >> 20);
    }

    #[test]
    fn tls_counts_when_it_is_spoken() {
        let plain = Config { connections_max: 100_000, threads: 1, ..Config::default() };
        let sealed: Config = toml::from_str("[tls]\ncert = \"c\"\nkey = \"k\"").unwrap();
        let sealed = Config { tls: sealed.tls, ..plain.clone() };
        let more = memory_bound(&sealed) - memory_bound(&plain);
        assert_eq!(more >> 20, 841, "MiB for a hundred thousand connections");
    }

    #[test]
    fn addresses_count_when_they_are_limited() {
        let open = Config { threads: 1, ..Config::default() };
        let mut limited = open.clone();
        limited.admission.connections_per_ip = Some(10);
        let more = memory_bound(&limited) - memory_bound(&open);
        assert_eq!(more >> 20, 77, "MiB for a million connections");
    }
}
