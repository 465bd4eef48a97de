//! Measures appends and acks through the engine on a Redis and a MariaDB of its own, in temporary folders:
//! `cargo run --release -p saver --example cluster_bench -- [fast|safe] [messages] [users] [calls in flight] [items a call]`.
//!
//! Each caller appends a batch, waits until it is answered, and acks it: what centers and rooms do at full load.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use saver::{
    archive::mysql::{MySqlArchive, MySqlSettings},
    engine::{AckItem, Append, Durability, Engine, Everything, Limits},
    inbox::{
        Journaled as _,
        redis::{RedisInboxes, RedisSettings, life},
    },
    metrics::Metrics,
    model::InboxKey,
};
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, MessageId, Uid};

const PAYLOAD: usize = 256;
const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let durability = if words.iter().any(|w| w == "safe") { Durability::Safe } else { Durability::Fast };
    let numbers: Vec<usize> = words.iter().filter_map(|a| a.parse().ok()).collect();
    let get = |n: usize, default: usize| numbers.get(n).copied().unwrap_or(default);
    let (messages, users, calls, items) = (get(0, 200_000), get(1, 50_000), get(2, 16), get(3, 32));
    tokio::runtime::Runtime::new()?.block_on(run(durability, messages, users, calls, items))
}

async fn run(
    durability: Durability,
    messages: usize,
    users: usize,
    calls: usize,
    items: usize,
) -> anyhow::Result<()> {
    let redis = stores::Redis::start().await?;
    let mysql = stores::MariaDb::start().await?;
    let archive = MySqlArchive::open(&MySqlSettings::new(mysql.url("longwire").await?)).await?;
    let settings = RedisSettings {
        nodes: vec![redis.url()],
        cluster: false,
        name: "bench".to_owned(),
        wait_replicas: 0,
        partitions: 16,
        journal_records: 100_000,
        journal_bytes: 64 << 20,
        ids: 262_144,
        words: 65_536,
        filter_bytes: 16 << 20,
        idle: Duration::from_secs(600),
        timeout: Duration::from_secs(5),
    };
    let store = RedisInboxes::new(settings, Arc::new(|_| true));
    let cancel = CancellationToken::new();
    let (engine, work) = Engine::start_journaled(
        store.clone(),
        archive,
        Everything,
        Limits { durability, ..Limits::default() },
        Arc::new(|| NOW),
        Metrics::default(),
        Arc::new(|_| true),
        cancel.clone(),
    )
    .await?;
    let work = tokio::spawn(work);
    let (keeper, keeping) = (engine.clone(), CancellationToken::new());
    let kept = keeping.clone();
    tokio::spawn(async move { life::keep(keeper.inboxes().clone(), keeper.archive(), kept).await });
    while !store.is_up() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    redis.call(&["CONFIG", "RESETSTAT"]).await?;
    let begun = Instant::now();
    let cpu = [redis.pid(), mysql.pid(), Some(std::process::id())].map(ticks);
    let per_caller = messages / calls;
    let callers = (0..calls).map(|caller| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for batch in 0..per_caller / items {
                let append = (0..items).map(|n| {
                    let number = (batch * items + n) * calls + caller;
                    let uid = format!("user-{:06}", number.wrapping_mul(7919) % users);
                    Append {
                        id: MessageId((1_000_000 << 22) + (number as u64) * 64 + 1),
                        keys: vec![InboxKey::new(AppId(1), Uid::new(uid).unwrap())],
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
    let partitions: Vec<u32> = (0..store.partitions()).collect();
    let lag = store.lag(&partitions).await.unwrap();
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
    let names = ["Redis", "MariaDB", "engine"];
    for ((name, before), pid) in
        names.iter().zip(cpu).zip([redis.pid(), mysql.pid(), Some(std::process::id())])
    {
        println!("processor of {name}: {:.1} µs a message", (ticks(pid) - before) * 1e4 / done);
    }
    let stats = redis.call(&["INFO", "stats"]).await?;
    let commands = redis.call(&["INFO", "commandstats"]).await?;
    println!("{}", stats.lines().find(|l| l.contains("total_commands_processed")).unwrap_or_default());
    let calls_of = |l: &str| {
        let (name, rest) = l.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse::<f64>().ok()?))
    };
    for (name, calls) in commands.lines().filter_map(calls_of) {
        println!("  {name}: {:.2} a message", calls / done);
    }
    cancel.cancel();
    work.await?;
    keeping.cancel();
    Ok(())
}

/// Processor time of a process so far, hundredths of a second.
fn ticks(pid: Option<u32>) -> f64 {
    let Some(pid) = pid else { return 0.0 };
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum()
}
