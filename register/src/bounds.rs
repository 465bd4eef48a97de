//! The most memory that a register's configuration allows.

use crate::config::Config;

/// A session with the longest name: its record of 160 bytes, and its place in a table that may just have doubled.
const SESSION_BYTES: usize = 184;
/// A kick: its struct, the user's name, its place in a batch.
const KICK_BYTES: usize = 512;
/// Lives of rooms, what purges and take-overs walk over.
const ROOMS_BYTES: usize = 16 << 20;

/// The formula of [`Config`], in bytes.
pub(crate) fn memory_bound(config: &Config) -> u64 {
    let sessions = config.sessions_max.saturating_mul(SESSION_BYTES);
    let kicks = config.kicks.queue.saturating_add(config.kicks.workers).saturating_mul(KICK_BYTES);
    sessions.saturating_add(kicks).saturating_add(ROOMS_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bind, RoomLife, Store, StoreFull};

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        assert_eq!(memory_bound(&Config::default()) >> 20, 750, "MiB");
    }

    /// Rooms may tell of any number of users, and each cost memory until the process was killed for it.
    #[test]
    fn a_store_is_full_at_its_bound_and_takes_less_than_was_reckoned() {
        let (most, store) = (50_000, Store::with_bound(1, 50_000));
        let bind = Bind { life: RoomLife { room: 1, incarnation: 1 }, conn: 7, since_ms: 9 };
        let name = |n: usize| format!("{n:0>128}");
        let taken = (0..2 * most).filter(|n| store.bind(1, &name(*n), bind).is_ok()).count();
        assert!((most * 9 / 10..=most + 256).contains(&taken), "{taken}");
        assert_eq!(store.len(), taken);
        let bound = memory_bound(&Config { sessions_max: most, ..Config::default() }) as usize;
        assert!(store.allocated_bytes() < bound, "{}", store.allocated_bytes());
        assert!(store.bind(1, &name(0), bind).is_ok(), "who is there may come again");
        let refused = (0..2 * most).map(|n| store.bind(1, &name(n), bind)).find_map(Result::err);
        assert_eq!(refused, Some(StoreFull));
    }
}
