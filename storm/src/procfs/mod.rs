//! Memory and processor time of the servers under test, of the storm itself and of the kernel, from `/proc`.

mod kernel;
mod programs;

use std::{fs, io, time::Instant};

use serde::{Deserialize, Serialize};

pub use kernel::{Kernel, Machine};
pub use programs::of_programs;

/// Linux tells processor time in hundredths of a second to all programs, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Of it: memory of its own, and not a page of a file (its program, say) that others may share.
    pub own_bytes: u64,
    /// Processor time, user and system, since its start.
    pub cpu_s: f64,
}

/// Samples a set of processes.
#[derive(Debug, Clone)]
pub struct Watch {
    pids: Vec<u32>,
    start: Vec<Usage>,
    since: Instant,
}

/// What one process did between two looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The process.
    pub pid: u32,
    /// Name of its program.
    pub name: String,
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// By how much it grew.
    pub rss_grown_bytes: i64,
    /// Processors kept busy on average.
    pub cpus: f64,
    /// Processor time used, seconds.
    pub cpu_s: f64,
}

impl Watch {
    /// Takes the first look.
    ///
    /// # Errors
    /// If one of the processes is not there.
    pub fn start(pids: &[u32]) -> io::Result<Self> {
        let start = pids.iter().map(|pid| usage(*pid)).collect::<io::Result<_>>()?;
        Ok(Self { pids: pids.to_vec(), start, since: Instant::now() })
    }

    /// What has changed since the first look. A process that is gone meanwhile is left out.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let change = |(pid, before): (&u32, &Usage)| {
            let now = usage(*pid).ok()?;
            let cpu_s = now.cpu_s - before.cpu_s;
            Some(Change {
                pid: *pid,
                name: name(*pid),
                rss_bytes: now.rss_bytes,
                rss_grown_bytes: now.rss_bytes as i64 - before.rss_bytes as i64,
                cpus: cpu_s / seconds,
                cpu_s,
            })
        };
        self.pids.iter().zip(&self.start).filter_map(change).collect()
    }
}

/// What a process has used so far.
///
/// # Errors
/// If it is not there.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid} is not as expected"));
    Ok(Usage {
        rss_bytes: field(&status, "VmRSS:").ok_or_else(malformed)?,
        own_bytes: field(&status, "RssAnon:").unwrap_or(0),
        cpu_s: cpu(&stat).ok_or_else(malformed)?,
    })
}

/// Whether the process runs. One that has ended and that nobody has asked after yet does not.
#[must_use]
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')')
        .and_then(|at| stat[at + 1..].split_ascii_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// Name of a process's program, at most 15 characters of it.
#[must_use]
pub fn name(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end().to_owned()
}

fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything; user and system time are fields 14 and 15 of all.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(field("Name:\troom\nVmHWM:\t  900 kB\nVmRSS:\t     812 kB\n", "VmRSS:"), Some(812 * 1024));
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 200";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("garbage"), None);
    }

    #[test]
    fn sees_itself() {
        let me = std::process::id();
        let watch = Watch::start(&[me]).unwrap();
        let changes = watch.changes();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].rss_bytes > 100_000 && !changes[0].name.is_empty());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Watch::start(&[u32::MAX]).is_err());
        assert!(!lives(u32::MAX) && lives(std::process::id()));
    }
}
