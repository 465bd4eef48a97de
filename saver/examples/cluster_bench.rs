//! Measures appends and acks through the engine on a Redis and a MariaDB of its own, in temporary folders:
//! `cargo run --release -p saver --example cluster_bench -- [fast|safe] [messages] [users] [calls in flight] [items a call]`.
//!
//! Each caller appends a batch, waits until it is answered, and acks it: what centers and rooms do at full load.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod bench;

use std::time::{Duration, Instant};

use bench::{
    NOW, PAYLOAD,
    cluster::{NAMES, Shared},
    id, is_asked, numbers, user,
};
use bytes::Bytes;
use saver::engine::{AckItem, Append, Durability, Limits};

fn main() -> anyhow::Result<()> {
    let durability = if is_asked("safe") { Durability::Safe } else { Durability::Fast };
    let [messages, users, calls, items] = numbers([200_000, 50_000, 16, 32]);
    tokio::runtime::Runtime::new()?.block_on(run(durability, messages, users, calls, items))
}

async fn run(
    durability: Durability,
    messages: usize,
    users: usize,
    calls: usize,
    items: usize,
) -> anyhow::Result<()> {
    let saver = Shared::start(Limits { durability, ..Limits::default() }).await?;
    let engine = &saver.engine;
    let begun = Instant::now();
    let cpu = saver.ticks();
    let per_caller = messages / calls;
    let callers = (0..calls).map(|caller| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for batch in 0..per_caller / items {
                let append = (0..items).map(|n| {
                    let number = (batch * items + n) * calls + caller;
                    Append {
                        id: id(number),
                        keys: vec![user(number.wrapping_mul(7919) % users)],
                        payload: Bytes::from(vec![7; PAYLOAD]),
                        accepted_ms: NOW,
                        expires_ms: NOW * 2,
                        inbox_cap: None,
                        multicast: false,
                        durability: None,
                        collapse: None,
                    }
                });
                let append: Vec<_> = append.collect();
                let keys: Vec<_> = append.iter().map(|a| a.keys[0].clone()).collect();
                let asked = Instant::now();
                let done = engine.append(append).await;
                times.push(asked.elapsed());
                let acks = done.into_iter().zip(keys).map(|(done, key)| AckItem {
                    key,
                    inbox: Some(done.unwrap().positions[0]),
                    cursor: None,
                    credits: Vec::new(),
                });
                engine.ack(acks.collect()).await.unwrap();
            }
            times
        })
    });
    let mut times: Vec<Duration> =
        futures::future::try_join_all(callers).await?.into_iter().flatten().collect();
    let took = begun.elapsed().as_secs_f64();
    let lag = saver.lag().await;
    engine.flush().await.unwrap();
    let flushed = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let done = (per_caller / items * items * calls) as f64;
    println!(
        "{durability:?}: {:.0} appends/s and as many acks/s; {calls} calls of {items} in flight, {users} users",
        done / took
    );
    let at = |part: f64| times[(part * (times.len() - 1) as f64) as usize];
    println!("append call: median {:.1?}, 99 % {:.1?}, slowest {:.1?}", at(0.5), at(0.99), at(1.0));
    println!(
        "to land at the end: {} lines; all landed after {flushed:.1} s instead of {took:.1} s",
        lag.records
    );
    for ((name, before), now) in NAMES.iter().zip(cpu).zip(saver.ticks()) {
        println!("processor of {name}: {:.1} µs a message", (now - before) * 1e4 / done);
    }
    let stats = saver.redis.call(&["INFO", "stats"]).await?;
    println!("{}", stats.lines().find(|l| l.contains("total_commands_processed")).unwrap_or_default());
    for (name, calls, _) in saver.commands().await? {
        println!("  {name}: {:.2} a message", calls / done);
    }
    saver.end().await
}
