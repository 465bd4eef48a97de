//! How many files a process may open.

/// Descriptors that a process of the storm needs besides its devices: its own pipes and event loop, connections to
/// centers and dispatcher, and what a test runs in the same process.
const MARGIN: u64 = 600;

/// What is assumed where the system does not say: the smallest common default.
const UNKNOWN: u64 = 1024;

/// Raises the soft limit on open files to the hard one and answers what holds.
pub fn raise_open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(UNKNOWN)
}

/// How many devices one process can hold. Raises the limit first.
#[must_use]
pub fn devices_per_process() -> u32 {
    let limit = raise_open_files();
    u32::try_from(limit.saturating_sub(MARGIN).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn leaves_a_margin() {
        assert!(u64::from(super::devices_per_process()) < super::raise_open_files());
    }
}
