//! The most memory that a coordinator's configuration allows.

use wire::limits::MAX_CLIENT_FRAME;

use crate::config::Config;

/// Callbacks of an app: upstream data, online and offline events.
const LANES_PER_APP: usize = 2;
/// Apps whose backends are behind at the same time.
const APPS_BEHIND: usize = 32;
/// A worker's task, its queue of [`crate::lane`] and its connection to the backend.
const WORKER_BYTES: usize = 48 << 10;
/// SQLite's page caches, and what it commits as one group.
const SPILL_BYTES: usize = 24 << 20;

/// The formula of [`Config`], in bytes.
pub(crate) fn memory_bound(config: &Config) -> u64 {
    // An event that waits in memory is there once more when it is written to the queue.
    let events = config.memory_bytes.saturating_mul(2);
    // The event under way is there as it was read, and as the text of its request: base64, and a copy for the connection.
    let trying = 4 * MAX_CLIENT_FRAME;
    let worker = WORKER_BYTES + trying + config.spill.window_bytes;
    let workers = APPS_BEHIND * LANES_PER_APP * config.workers_per_app;
    events.saturating_add(workers.saturating_mul(worker)).saturating_add(SPILL_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_stay_within_what_their_documentation_says() {
        let whole = memory_bound(&Config::default()) >> 20;
        assert_eq!(whole, 320, "MiB");
        let config = Config { memory_bytes: 8 << 20, workers_per_app: 1, ..Config::default() };
        assert!(memory_bound(&config) < 64 << 20);
    }
}
