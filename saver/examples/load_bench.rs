//! Measures the loads of users who bind, on the embedded pair in a temporary folder:
//! `cargo run --release -p saver --example load_bench -- [users] [items a call] [calls in flight] [savers]`.
//!
//! First as users never seen, then by a saver that has just begun and knows of nobody, then once more. Several savers share
//! the file and the users.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod bench;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bench::{Embedded, Span, numbers, user};
use futures::future::try_join_all;
use saver::{engine::LoadItem, model::Read};

fn main() -> anyhow::Result<()> {
    let [users, items, calls, savers] = numbers([200_000, 32, 8, 1]);
    tokio::runtime::Runtime::new()?.block_on(run(users, items, calls, savers))
}

async fn run(users: usize, items: usize, calls: usize, savers: usize) -> anyhow::Result<()> {
    let mut all = vec![Embedded::start().await?];
    while all.len() < savers {
        all.push(all[0].beside().await?);
    }
    println!("{users} users in calls of {items}, {calls} in flight at each of {savers} savers");
    told("never seen", users, items, calls, &all).await?;
    for saver in std::mem::take(&mut all) {
        all.push(saver.again().await?);
    }
    told("not in memory", users, items, calls, &all).await?;
    told("in memory", users, items, calls, &all).await?;
    println!("archive {} MiB", all[0].size()?);
    for saver in all {
        saver.end().await?;
    }
    Ok(())
}

async fn told(
    what: &str,
    users: usize,
    items: usize,
    calls: usize,
    savers: &[Embedded],
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let span = Span::begin();
    let callers = savers.iter().flat_map(|saver| std::iter::repeat_n(saver, calls)).map(|saver| {
        let (engine, next) = (saver.engine.clone(), next.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let first = next.fetch_add(items, Ordering::Relaxed);
                if first >= users {
                    return times;
                }
                let load = (first..users.min(first + items)).map(|n| LoadItem {
                    // Names do not come in the order of the alphabet.
                    key: user(n.wrapping_mul(7_919) % users),
                    read: Read { after: None, acknowledges: false, max_messages: 64, max_bytes: 16 << 10 },
                    bind: true,
                    own_cursor: None,
                    utc_offset_min: None,
                });
                let load = load.collect();
                let asked = Instant::now();
                for result in engine.load(load).await {
                    result.unwrap().cursor.unwrap();
                }
                times.push(asked.elapsed());
            }
        })
    });
    let mut times: Vec<Duration> =
        try_join_all(callers.collect::<Vec<_>>()).await?.into_iter().flatten().collect();
    let (took, processor) = span.end(users);
    times.sort_unstable();
    let at = |part: f64| times[(part * (times.len() - 1) as f64) as usize];
    println!(
        "{what}: {:.0} users/s, processor {processor:.1} µs a user; a call {:.1?} (median), {:.1?} (99 %)",
        users as f64 / took,
        at(0.5),
        at(0.99)
    );
    Ok(())
}
