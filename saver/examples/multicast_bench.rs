//! Measures one multicast to many users through the engine, in calls of so many users each, as a stream sends them:
//! `cargo run --release -p saver --example multicast_bench -- [redis|sqlite] [users] [users a call] [calls in flight]`.
//!
//! `redis` is a Redis and a MariaDB of its own, class `fast`; `sqlite` is the embedded pair. Both are in temporary folders.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use saver::{
    archive::{
        Archive,
        mysql::{MySqlArchive, MySqlSettings},
        sqlite::{SqliteArchive, SqliteSettings},
    },
    engine::{Append, Engine, Everything, Limits},
    inbox::{
        InboxStore, Journaled as _,
        memory::{MemoryInboxes, MemoryLimits},
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
    let embedded = words.iter().any(|w| w == "sqlite");
    let numbers: Vec<usize> = words.iter().filter_map(|a| a.parse().ok()).collect();
    let get = |n: usize, default: usize| numbers.get(n).copied().unwrap_or(default);
    let (users, each, calls) = (get(0, 1_000_000), get(1, 1_000), get(2, 16));
    let runtime = tokio::runtime::Runtime::new()?;
    if embedded {
        runtime.block_on(on_sqlite(users, each, calls))
    } else {
        runtime.block_on(on_redis(users, each, calls))
    }
}

async fn on_sqlite(users: usize, each: usize, calls: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = SqliteSettings {
        path: folder.path().join("archive.db"),
        cache_bytes: 16 << 20,
        busy_timeout: Duration::from_secs(5),
    };
    let archive = SqliteArchive::open(&settings).await?;
    let limits = MemoryLimits { inboxes: 100_000, messages: 500_000, payload_bytes: 64 << 20, idle_s: 300 };
    let inboxes = MemoryInboxes::new(archive.begin_epoch().await?, limits);
    let cancel = CancellationToken::new();
    let (engine, writer) = Engine::start(
        inboxes,
        archive,
        Everything,
        Limits::default(),
        Arc::new(|| NOW),
        Metrics::default(),
        cancel.clone(),
    )
    .await?;
    let writer = tokio::spawn(writer);
    let cpu = ticks(Some(std::process::id()));
    let (took, messages) = multicast(&engine, users, each, calls).await;
    told("SQLite", users, took, messages);
    println!(
        "processor of engine: {:.1} µs a user",
        (ticks(Some(std::process::id())) - cpu) * 1e4 / users as f64
    );
    cancel.cancel();
    writer.await?;
    Ok(())
}

async fn on_redis(users: usize, each: usize, calls: usize) -> anyhow::Result<()> {
    let redis = stores::Redis::start().await?;
    let mysql = stores::MariaDb::start().await?;
    let archive = MySqlArchive::open(&MySqlSettings::new(mysql.url("longwire").await?)).await?;
    let settings = RedisSettings {
        nodes: vec![redis.url()],
        cluster: false,
        name: "bench".to_owned(),
        wait_replicas: 0,
        partitions: 16,
        journal_records: 200_000,
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
        Limits::default(),
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
    let pids = [redis.pid(), mysql.pid(), Some(std::process::id())];
    let cpu = pids.map(ticks);
    let (took, messages) = multicast(&engine, users, each, calls).await;
    let then = pids.map(ticks);
    told("Redis", users, took, messages);
    let partitions: Vec<u32> = (0..store.partitions()).collect();
    let lag = store.lag(&partitions).await.unwrap();
    let landing = Instant::now();
    let flushed = engine.flush().await;
    println!(
        "to land at the end: {} lines, which took {:.1} s ({flushed:?})",
        lag.records,
        landing.elapsed().as_secs_f64()
    );
    for (n, name) in ["Redis", "MariaDB", "engine"].iter().enumerate() {
        let (during, after) = (then[n] - cpu[n], ticks(pids[n]) - then[n]);
        let each = |ticks: f64| ticks * 1e4 / users as f64;
        println!(
            "processor of {name}: {:.1} µs a user, and {:.1} to land the rest",
            each(during),
            each(after)
        );
    }
    let memory = redis.call(&["INFO", "memory"]).await?;
    println!("{}", memory.lines().find(|l| l.starts_with("used_memory:")).unwrap_or_default());
    let commands = redis.call(&["INFO", "commandstats"]).await?;
    let calls_of = |l: &str| {
        let (name, rest) = l.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let (calls, rest) = rest.split_once(",usec=")?;
        let usec = rest.split(',').next()?.parse::<f64>().ok()?;
        Some((name.to_owned(), calls.parse::<f64>().ok()?, usec))
    };
    for (name, calls, usec) in
        commands.lines().filter_map(calls_of).filter(|c| c.1 * 100.0 > users as f64 || c.2 > 1e5)
    {
        println!("  {name}: {:.2} a user, {:.2} µs a user", calls / users as f64, usec / users as f64);
    }
    let started = Instant::now();
    let (mut after, mut seen) = (String::new(), 0);
    loop {
        let page = engine.targets(AppId(1), id(), &after, 1_000).await?;
        seen += page.targets.len();
        let Some(last) = page.targets.last().filter(|_| page.more) else { break };
        after = last.uid.as_str().to_owned();
    }
    println!("its users listed: {seen} in {:.1} s", started.elapsed().as_secs_f64());
    cancel.cancel();
    work.await?;
    keeping.cancel();
    Ok(())
}

fn id() -> MessageId {
    MessageId((1_000_000 << 22) + 1)
}

/// Sends it; how long that took, and how many deliveries were answered.
async fn multicast<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
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
                    id: id(),
                    keys: (first..users.min(first + each))
                        .map(|n| InboxKey::new(AppId(1), Uid::new(format!("user-{n:08}")).unwrap()))
                        .collect(),
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

/// Processor time of a process so far, hundredths of a second.
fn ticks(pid: Option<u32>) -> f64 {
    let Some(pid) = pid else { return 0.0 };
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum()
}
