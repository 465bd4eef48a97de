//! Measures one multicast to many users through the engine, in calls of so many users each, as a stream sends them:
//! `cargo run --release -p saver --example multicast_bench -- [redis|sqlite] [users] [users a call] [calls in flight] [lists]`.
//!
//! `redis` is a Redis and a MariaDB of its own, class `fast`; `sqlite` is the embedded pair. Both are in temporary folders.
//! Of several lists each begins when the one before has been answered, and is landing still.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod bench;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bench::{
    APP, Embedded, NOW, PAYLOAD, Span,
    cluster::{NAMES, Shared},
    id, is_asked, numbers, user,
};
use bytes::Bytes;
use saver::{
    archive::Archive,
    engine::{Append, Engine, Limits},
    inbox::InboxStore,
};

fn main() -> anyhow::Result<()> {
    let [users, each, calls, lists] = numbers([1_000_000, 1_000, 16, 1]);
    let runtime = tokio::runtime::Runtime::new()?;
    if is_asked("sqlite") {
        runtime.block_on(on_sqlite(users, each, calls, lists))
    } else {
        runtime.block_on(on_redis(users, each, calls, lists))
    }
}

async fn on_sqlite(users: usize, each: usize, calls: usize, lists: usize) -> anyhow::Result<()> {
    let saver = Embedded::start().await?;
    for list in 0..lists {
        let span = Span::begin();
        let (took, messages) = multicast(&saver.engine, list, users, each, calls).await;
        told("SQLite", users, took, messages);
        println!("processor of engine: {:.1} µs a user", span.end(users).1);
    }
    saver.end().await
}

async fn on_redis(users: usize, each: usize, calls: usize, lists: usize) -> anyhow::Result<()> {
    let saver = Shared::start(Limits::default()).await?;
    let used = |before: [f64; 3], what: &str| {
        for ((name, before), now) in NAMES.iter().zip(before).zip(saver.ticks()) {
            println!("processor of {name} {what}: {:.1} µs a user", (now - before) * 1e4 / users as f64);
        }
    };
    for list in 0..lists {
        let before = saver.ticks();
        let (took, messages) = multicast(&saver.engine, list, users, each, calls).await;
        told("Redis", users, took, messages);
        used(before, "meanwhile");
    }
    let (lag, before, landing) = (saver.lag().await, saver.ticks(), Instant::now());
    let flushed = saver.engine.flush().await;
    println!(
        "to land at the end: {} lines, which took {:.1} s ({flushed:?})",
        lag.records,
        landing.elapsed().as_secs_f64()
    );
    used(before, "to land the rest");
    let memory = saver.redis.call(&["INFO", "memory"]).await?;
    println!("{}", memory.lines().find(|l| l.starts_with("used_memory:")).unwrap_or_default());
    let all = (users * lists) as f64;
    for (name, calls, usec) in saver.commands().await? {
        if calls * 100.0 > all || usec > 1e5 {
            println!("  {name}: {:.2} a user, {:.2} µs a user", calls / all, usec / all);
        }
    }
    let started = Instant::now();
    let (mut after, mut seen) = (String::new(), 0);
    loop {
        let page = saver.engine.targets(APP, id(0), &after, 1_000).await?;
        seen += page.targets.len();
        let Some(last) = page.targets.last().filter(|_| page.more) else { break };
        after = last.uid.as_str().to_owned();
    }
    println!("its users listed: {seen} in {:.1} s", started.elapsed().as_secs_f64());
    saver.end().await
}

/// Sends it; how long that took, and how many deliveries were answered.
async fn multicast<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    list: usize,
    users: usize,
    each: usize,
    calls: usize,
) -> (Duration, usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let callers = (0..calls).map(|_| {
        let (engine, next) = (engine.clone(), next.clone());
        tokio::spawn(async move {
            let mut done = 0;
            loop {
                let first = next.fetch_add(each, Ordering::Relaxed);
                if first >= users {
                    return done;
                }
                let append = || Append {
                    id: id(list),
                    keys: (first..users.min(first + each)).map(user).collect(),
                    payload: Bytes::from(vec![7; PAYLOAD]),
                    accepted_ms: NOW,
                    expires_ms: NOW * 2,
                    inbox_cap: None,
                    multicast: true,
                    durability: None,
                    collapse: None,
                };
                loop {
                    match engine.append(vec![append()]).await.remove(0) {
                        Ok(appended) => {
                            done += appended.positions.len();
                            break;
                        }
                        // As callers do; a queue of this process is empty again sooner than they are told.
                        Err(e) if e.code() == "busy" => tokio::time::sleep(Duration::from_millis(20)).await,
                        Err(e) if e.retry_after_ms().is_some() => {
                            println!("refused: {e}");
                            let wait = e.retry_after_ms().unwrap_or_default();
                            tokio::time::sleep(Duration::from_millis(wait.into())).await;
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        })
    });
    let done = futures::future::try_join_all(callers).await.unwrap().into_iter().sum();
    (begun.elapsed(), done)
}

fn told(store: &str, users: usize, took: Duration, messages: usize) {
    assert_eq!(messages, users);
    let took = took.as_secs_f64();
    println!("{store}: {:.0} users/s accepted and stored; {users} in {took:.1} s", users as f64 / took);
}
