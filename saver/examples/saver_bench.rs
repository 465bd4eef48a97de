//! Measures appends and acks through the engine on a new archive in a temporary folder:
//! `cargo run --release -p saver --example saver_bench -- [messages] [users] [calls in flight] [items a call]`.
//!
//! Each caller appends a batch, waits until it is durable, and acks it: what centers and rooms do at full load.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use saver::{
    archive::Archive as _,
    archive::sqlite::{SqliteArchive, SqliteSettings},
    engine::{AckItem, Append, Engine, Everything, Limits},
    inbox::memory::{MemoryInboxes, MemoryLimits},
    metrics::Metrics,
    model::InboxKey,
};
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, MessageId, Uid};

const PAYLOAD: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let get = |n: usize, default: usize| arguments.get(n).copied().unwrap_or(default);
    let (messages, users, calls, items) = (get(0, 400_000), get(1, 50_000), get(2, 8), get(3, 64));
    tokio::runtime::Runtime::new()?.block_on(run(messages, users, calls, items))
}

async fn run(
    messages: usize,
    users: usize,
    calls: usize,
    items: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let settings = SqliteSettings {
        path: folder.path().join("archive.db"),
        cache_bytes: 16 << 20,
        busy_timeout: std::time::Duration::from_secs(5),
    };
    let archive = SqliteArchive::open(&settings).await?;
    let epoch = archive.begin_epoch().await?;
    let limits = MemoryLimits { inboxes: 200_000, messages: 500_000, payload_bytes: 64 << 20, idle_s: 300 };
    let inboxes = MemoryInboxes::new(epoch, limits);
    let cancel = CancellationToken::new();
    let clock = Arc::new(|| MessageId::EPOCH_MS + 1_000_000);
    let metrics = Metrics::default();
    let (engine, writer) =
        Engine::start(inboxes, archive, Everything, Limits::default(), clock, metrics, cancel.clone())
            .await?;
    let writer = tokio::spawn(writer);

    let begun = Instant::now();
    let per_caller = messages / calls;
    let callers = (0..calls).map(|caller| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut slowest = std::time::Duration::ZERO;
            let mut total = std::time::Duration::ZERO;
            for batch in 0..per_caller / items {
                let append = (0..items).map(|n| {
                    let number = (batch * items + n) * calls + caller;
                    let uid = format!("user-{:06}", number.wrapping_mul(7919) % users);
                    Append {
                        id: MessageId((1_000_000 << 22) + (number as u64) * 64 + 1),
                        keys: vec![InboxKey::new(AppId(1), Uid::new(uid).unwrap())],
                        payload: Bytes::from(vec![7; PAYLOAD]),
                        accepted_ms: MessageId::EPOCH_MS + 1_000_000,
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
    let took = begun.elapsed().as_secs_f64();
    let done = (per_caller / items * items * calls) as f64;
    let slowest = times.iter().map(|t| t.0).max().unwrap_or_default();
    let mean = times.iter().map(|t| t.1).sum::<std::time::Duration>() / (per_caller / items * calls) as u32;
    let size = std::fs::metadata(&settings.path)?.len() >> 20;
    println!(
        "{:.0} appends/s and as many acks/s; {calls} calls of {items} in flight, {users} users",
        done / took
    );
    println!("append call: mean {mean:.1?}, slowest {slowest:.1?}; archive {size} MiB");
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        let ticks: Vec<f64> =
            stat.split_whitespace().skip(13).take(2).filter_map(|t| t.parse().ok()).collect();
        println!("processor: {:.1} µs a message", ticks.iter().sum::<f64>() * 1e4 / done);
    }
    cancel.cancel();
    writer.await?;
    Ok(())
}
