//! Measures appends and acks through the engine on a new archive in a temporary folder:
//! `cargo run --release -p saver --example saver_bench -- [messages] [users] [calls in flight] [items a call]`.
//!
//! Each caller appends a batch, waits until it is durable, and acks it: what centers and rooms do at full load.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod bench;

use std::time::{Duration, Instant};

use bench::{Embedded, NOW, PAYLOAD, Span, id, numbers, user};
use bytes::Bytes;
use saver::engine::{AckItem, Append};

fn main() -> anyhow::Result<()> {
    let [messages, users, calls, items] = numbers([400_000, 50_000, 8, 64]);
    tokio::runtime::Runtime::new()?.block_on(run(messages, users, calls, items))
}

async fn run(messages: usize, users: usize, calls: usize, items: usize) -> anyhow::Result<()> {
    let saver = Embedded::start().await?;
    let engine = &saver.engine;
    let span = Span::begin();
    let per_caller = messages / calls;
    let callers = (0..calls).map(|caller| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            let mut total = Duration::ZERO;
            for batch in 0..per_caller / items {
                let append = (0..items).map(|n| {
                    let number = (batch * items + n) * calls + caller;
                    Append {
                        id: id(number),
                        keys: vec![user(number.wrapping_mul(7919) % users)],
                        payload: Bytes::from(vec![7; PAYLOAD]),
                        accepted_ms: NOW,
                        expires_ms: u64::MAX / 4,
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
                total += asked.elapsed();
                slowest = slowest.max(asked.elapsed());
                let acks = done.into_iter().zip(keys).map(|(done, key)| AckItem {
                    key,
                    inbox: Some(done.unwrap().positions[0]),
                    cursor: None,
                    credits: Vec::new(),
                });
                engine.ack(acks.collect()).await.unwrap();
            }
            (slowest, total)
        })
    });
    let times: Vec<_> = futures::future::try_join_all(callers).await?;
    engine.flush().await?;
    let count = per_caller / items * items * calls;
    let (took, processor) = span.end(count);
    let slowest = times.iter().map(|t| t.0).max().unwrap_or_default();
    let mean = times.iter().map(|t| t.1).sum::<Duration>() / (per_caller / items * calls) as u32;
    println!(
        "{:.0} appends/s and as many acks/s; {calls} calls of {items} in flight, {users} users",
        count as f64 / took
    );
    println!("append call: mean {mean:.1?}, slowest {slowest:.1?}; archive {} MiB", saver.size()?);
    println!("processor: {processor:.1} µs a message");
    saver.end().await
}
