//! What the kernel spends, and what machine it is.

use std::fs;

use serde::{Deserialize, Serialize};

/// What the kernel has spent at one moment, for all processes of the machine together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// TCP sockets that are open.
    pub tcp_sockets: u64,
    /// What waits in TCP sockets' buffers, bytes.
    pub tcp_bytes: u64,
    /// Kernel objects, sockets among them, bytes (`Slab`).
    pub slab_bytes: u64,
    /// Page tables and the stacks of threads, bytes.
    pub tables_bytes: u64,
    /// What a process could still have, bytes (`MemAvailable`).
    pub available_bytes: u64,
    /// Processor time of all processors since the start, seconds: busy.
    pub busy_s: f64,
    /// Likewise: busy in the kernel, interrupts included.
    pub system_s: f64,
}

/// The machine, in a few words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Name of the processor.
    pub processor: String,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel and its release.
    pub kernel: String,
}

impl Kernel {
    /// Looks now. What cannot be read is 0.
    #[must_use]
    pub fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (sockets, memory, stat) = (read("/proc/net/sockstat"), read("/proc/meminfo"), read("/proc/stat"));
        let kib = |key: &str| meminfo(&memory, key).unwrap_or(0);
        let (busy_s, system_s) = processors(&stat).unwrap_or_default();
        Self {
            tcp_sockets: sockstat(&sockets, "inuse").unwrap_or(0),
            tcp_bytes: sockstat(&sockets, "mem").unwrap_or(0) * page_bytes(),
            slab_bytes: kib("Slab"),
            tables_bytes: kib("PageTables") + kib("KernelStack"),
            available_bytes: kib("MemAvailable"),
            busy_s,
            system_s,
        }
    }
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let word = |path: &str| read(path).trim().to_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            memory_bytes: meminfo(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
            kernel: format!("{} {}", word("/proc/sys/kernel/ostype"), word("/proc/sys/kernel/osrelease")),
        }
    }
}

/// A figure of the line `TCP:`.
fn sockstat(text: &str, key: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_ascii_whitespace();
    words.find(|word| *word == key)?;
    words.next()?.parse().ok()
}

/// A figure in bytes.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Busy and in the kernel, seconds, all processors.
fn processors(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    let &[user, nice, system, _, _, irq, softirq, ..] = ticks.as_slice() else { return None };
    let in_kernel = system + irq + softirq;
    Some(((user + nice + in_kernel) / super::TICKS_PER_SECOND, in_kernel / super::TICKS_PER_SECOND))
}

/// Bytes of a page, as the kernel says of our own memory.
fn page_bytes() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "sockets: used 300\nTCP: inuse 12 orphan 0 tw 3 alloc 14 mem 5\nUDP: inuse 1 mem 2\n";
        assert_eq!((sockstat(text, "inuse"), sockstat(text, "mem")), (Some(12), Some(5)));
        assert_eq!(meminfo("SlabX: 1 kB\nSlab:      2048 kB\n", "Slab"), Some(2048 * 1024));
        let stat = "cpu  100 0 50 900 3 10 40 0 0 0\ncpu0 1 1 1 1 1 1 1\n";
        assert_eq!(processors(stat), Some((2.0, 1.0)));
        assert_eq!(processors("cpu 1 2"), None);
    }

    #[test]
    fn sees_this_machine() {
        let (machine, kernel) = (Machine::here(), Kernel::now());
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && machine.kernel.contains(' '));
        assert!(kernel.slab_bytes > 0 && kernel.busy_s > 0.0);
    }
}
