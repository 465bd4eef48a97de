//! How many files a process may open, and on which processors it runs.

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

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

/// Keeps this thread, and those that it starts, on these processors; none = any.
///
/// # Errors
/// If there is no such processor for this process.
pub fn pin(cpus: &[usize]) -> anyhow::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        ensure!(*cpu < CpuSet::MAX_CPU, "there is no processor {cpu}");
        set.set(*cpu);
    }
    sched_setaffinity(None, &set).with_context(|| format!("pinning to the processors {cpus:?}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_processor_that_is_not_there_is_an_error() {
        assert!(super::pin(&[]).is_ok());
        assert!(super::pin(&[100_000]).is_err());
    }

    #[test]
    fn leaves_a_margin() {
        assert!(u64::from(super::devices_per_process()) < super::raise_open_files());
    }
}
