//! Whether the machine stood still while a test ran. What services log then of time that has run out says nothing about them.

use std::{
    io::{Seek as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two looks at how late one is.
const TICK: Duration = Duration::from_millis(20);
/// Each so many ticks a few bytes are brought to the disk: stores wait for that more often.
const DISK: u32 = 10;
/// Where a thread of its own is so late, or a disk so slow, a call that passes through several processes and an fsync waits for
/// seconds, and a lease of five seconds may end.
const STALL: Duration = Duration::from_millis(250);

/// What services say when time has run out, and nothing else has gone wrong.
const OF_TIME: [&str; 10] = [
    "no answer in time",
    "the connection has failed",
    "waiting for the applied index took too long",
    "the deadline passed",
    "timed out",
    "was busy for",
    "exceeded slow threshold",
    "stood still for longer than its lease",
    "has ended its lease",
    "the lease had ended",
];

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Stalls {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    longest_ms: AtomicU64,
}

impl Stalls {
    /// Begins to look, in a thread of its own.
    pub fn watch() -> Self {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::spawn(move || look(&own));
        Self { shared }
    }

    /// Those of `lines` that want a human: on a machine that stood still not those about time.
    pub fn but_for_them<'a>(&self, lines: Vec<&'a str>) -> Vec<&'a str> {
        let longest = Duration::from_millis(self.shared.longest_ms.load(Relaxed));
        if longest < STALL || lines.is_empty() {
            return lines;
        }
        let (of_time, rest): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| is_of_time(line));
        if !of_time.is_empty() {
            println!("the machine stood still for {longest:?}, and services say so:\n{}", of_time.join("\n"));
        }
        rest
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
    }
}

fn is_of_time(line: &str) -> bool {
    OF_TIME.iter().any(|words| line.contains(words))
}

fn look(shared: &Shared) {
    let mut file = tempfile::tempfile().ok();
    for tick in 0u32.. {
        if shared.ended.load(Relaxed) {
            return;
        }
        let begun = Instant::now();
        thread::park_timeout(TICK);
        let mut late = begun.elapsed().saturating_sub(TICK);
        if let Some(file) = file.as_mut().filter(|_| tick.is_multiple_of(DISK)) {
            let begun = Instant::now();
            // A disk that is full tells nothing of time.
            let _ =
                file.rewind().and_then(|()| file.write_all(b"still there")).and_then(|()| file.sync_data());
            late = late.max(begun.elapsed());
        }
        shared.longest_ms.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_time_is_let_pass_and_only_then() {
        let stalls = Stalls { shared: Arc::default() };
        let lines = vec!["WARN etcd does not answer: no answer in time", "ERROR the archive is damaged"];
        assert_eq!(stalls.but_for_them(lines.clone()), lines);
        stalls.shared.longest_ms.store(2_000, Relaxed);
        assert_eq!(stalls.but_for_them(lines.clone()), lines[1..]);
    }
}
