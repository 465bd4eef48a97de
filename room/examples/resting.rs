//! What idle, bound devices cost in memory, by piece and as the system counts it, without sockets and without the rest of a
//! room: `cargo run --release -p room --example resting`.

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use room::{event_loop::CONNECTION_BYTES, session::Census};

use self::crowd::Crowd;

/// Resident memory of this process that is no file, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

fn main() {
    println!(
        "{:>9}  {:>8} {:>8} {:>6} {:>7} {:>6} {:>7}  {:>8}",
        "devices", "session", "binding", "users", "bitmaps", "timers", "socket", "resident"
    );
    for (count, tagged) in [(18_000, false), (100_000, false), (1_000_000, false), (100_000, true)] {
        let before = resident();
        let crowd = Crowd::with(count, tagged);
        let grown = resident().saturating_sub(before);
        let Census { connection_bytes, binding_bytes, user_bytes, bitmap_bytes, timer_bytes, .. } =
            crowd.sessions.census();
        let each = |bytes: usize| bytes as f64 / f64::from(count);
        println!(
            "{count:>9}  {:>8.1} {:>8.1} {:>6.1} {:>7.2} {:>6.1} {:>7.1}  {:>8.1}{}",
            each(connection_bytes),
            each(binding_bytes),
            each(user_bytes),
            each(bitmap_bytes),
            each(timer_bytes),
            CONNECTION_BYTES as f64,
            grown as f64 / f64::from(count),
            if tagged { "  with tags" } else { "" },
        );
    }
    println!("bytes a device; allocated by piece, and resident without sockets");
}
