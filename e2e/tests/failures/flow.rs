//! Savers that take a second for each call, under more pushes than they can take.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::{
    Backing, Layout, Processes, Shape, Stack, Tuning,
    faults::Fault,
    judge::{judge, options_for, pass},
};
use proto::v1;
use storm::{
    load::{ApiOptions, Centers, Fate},
    procfs,
    scenario::verify::VerifyOptions,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// Batches under way: four times what the centers may have.
const CALLERS: usize = 128;
const BATCH: usize = 64;
const PAYLOAD: usize = 1_024;
/// Users without a device, so that the flood ends in their inboxes.
const USERS: u64 = 5_000;
const MIB: u64 = 1 << 20;

/// Small bounds, so that what grows without one is seen within seconds.
const TUNING: &str = "[center]\nrequests_in_flight = 16\nbody_bytes_in_flight = 8388608\n\
                      [center.delivery]\nqueue_bytes = 8388608\n\
                      [room]\nqueued_bytes_total = 16777216\npartial_bytes_total = 16777216\n";

/// What a process may grow by over what it has at rest, as its configuration's documentation computes it, for the
/// values above.
fn bound(name: &str) -> u64 {
    match name.split('-').next().unwrap_or_default() {
        // Bodies, deliveries that wait, and flow control's windows of the flood's connections.
        "center" => 8 * MIB + 8 * MIB + 4 * 8 * MIB,
        "room" => 16 * MIB + 16 * MIB,
        // Deliveries that wait for the archive and their rows.
        "saver" => 32 * MIB + 20_000 * 250 + 100_000 * 64 + 16 * MIB,
        // Sessions and events of sixty devices, and what the allocator keeps.
        _ => 8 * MIB,
    }
}

/// Calls as fast as the centers let it.
#[derive(Default)]
struct Flood {
    accepted: AtomicU64,
    /// Refusals by word, and how many of them did not say when to come back.
    refused: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Flood {
    async fn pour(&self, centers: &Centers, turn: &AtomicU64) {
        let one = |_| v1::PushRequest {
            app: centers.app().to_owned(),
            uid: format!("flood-{}", turn.fetch_add(1, Relaxed) % USERS),
            payload: vec![b'x'; PAYLOAD].into(),
            ..v1::PushRequest::default()
        };
        let mut wait = Duration::ZERO;
        let failures = match centers.push((0..BATCH).map(one).collect()).await {
            Ok(results) => {
                let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
                self.accepted.fetch_add((BATCH - failures.len()) as u64, Relaxed);
                failures
            }
            Err(failure) => vec![failure],
        };
        for failure in failures {
            wait = wait.max(failure.retry_after.unwrap_or_default());
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let (all, without) = refused.entry(failure.code).or_default();
            *all += 1;
            *without += u64::from(failure.retry_after.is_none() || failure.fate == Fate::Refused);
        }
        sleep(wait).await;
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Accepted in a second, now.
    async fn rate(&self) -> u64 {
        let before = self.accepted();
        sleep(Duration::from_secs(1)).await;
        self.accepted() - before
    }
}

/// Bytes in memory.
fn resident(pid: u32) -> u64 {
    procfs::usage(pid).map_or(0, |usage| usage.rss_bytes)
}

/// The most that each process had, until cancelled.
async fn watch(pids: BTreeMap<String, u32>, stop: CancellationToken) -> BTreeMap<String, u64> {
    let mut most = BTreeMap::new();
    while !stop.is_cancelled() {
        for (name, pid) in &pids {
            let now = resident(*pid);
            let most = most.entry(name.clone()).or_insert(now);
            *most = now.max(*most);
        }
        sleep(Duration::from_millis(250)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_savers_push_back_and_nobody_else_notices() -> anyhow::Result<()> {
    let slow = ["saver-1", "saver-2"].map(str::to_owned).to_vec();
    let layout = Layout {
        backing: Backing::Own { etcd: 1, mariadb: None, replica: false },
        proxied: slow.clone(),
        ..Layout::default()
    };
    let stack = Stack::start(Shape::Cluster, Tuning { toml: TUNING.to_owned(), layout }).await?;
    let cluster = stack.processes().context("a cluster has processes")?;
    let options = VerifyOptions {
        seconds: Duration::from_secs(3_600),
        churn: 0.0,
        rate: 50.0,
        drain: Duration::from_secs(60),
        ..options_for(&stack)
    };
    let addresses = stack.addresses();
    let centers = Arc::new(Centers::new(&ApiOptions {
        centers: addresses.api.clone(),
        key: addresses.key.clone(),
        app: "demo".to_owned(),
        http: false,
    })?);
    let verdict = judge(options, flood(cluster, centers, &slow)).await?;
    pass(&verdict)?;
    let lost = verdict.counts.disconnects;
    ensure!(lost == 0, "{lost} connections were lost: {:?}", verdict.reasons);
    Ok(())
}

async fn flood(cluster: &Processes, centers: Arc<Centers>, slow: &[String]) -> anyhow::Result<()> {
    let pids: BTreeMap<_, _> =
        cluster.names().into_iter().filter_map(|n| cluster.pid(&n).map(|pid| (n, pid))).collect();
    let rest: BTreeMap<_, _> = pids.iter().map(|(name, pid)| (name.clone(), resident(*pid))).collect();
    let (flood, turn, stop) =
        (Arc::new(Flood::default()), Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (flood, turn, centers, stop) = (flood.clone(), turn.clone(), centers.clone(), stop.clone());
        callers.spawn(async move {
            while !stop.is_cancelled() {
                flood.pour(&centers, &turn).await;
            }
        });
    }
    let watched = tokio::spawn(watch(pids, stop.clone()));
    sleep(Duration::from_secs(4)).await;
    let before = flood.rate().await.min(flood.rate().await);

    for name in slow {
        Fault::Slow(name.clone()).strike(cluster).await?;
    }
    sleep(Duration::from_secs(2)).await;
    let mut during = vec![];
    for _ in 0..10 {
        during.push(flood.rate().await);
    }
    for name in slow {
        Fault::Slow(name.clone()).heal(cluster).await?;
    }
    let healed = Instant::now();
    let mut after = vec![];
    while healed.elapsed() < Duration::from_secs(5) {
        after.push(flood.rate().await);
    }
    stop.cancel();
    let most = watched.await?;
    while callers.join_next().await.is_some() {}

    let refused = flood.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
    println!("accepted a second: before {before}, slow {during:?}, after {after:?}");
    println!("refused (all, without a time to come back): {refused:?}");
    for (name, most) in &most {
        let (rest, bound) = (rest.get(name).copied().unwrap_or_default(), bound(name));
        println!(
            "{name}: {} MiB at rest, {} MiB at most, bound +{} MiB",
            rest / MIB,
            most / MIB,
            bound / MIB
        );
        ensure!(*most <= rest + bound, "{name} grew beyond its bound");
    }
    ensure!(during.iter().sum::<u64>() / 10 < before / 2, "the savers were not slow");
    ensure!(!refused.is_empty(), "nobody was refused");
    let words: BTreeSet<_> = refused.iter().filter(|(_, (_, without))| *without > 0).collect();
    ensure!(words.is_empty(), "refused without a time to come back: {words:?}");
    ensure!(after.iter().any(|rate| *rate >= before * 7 / 10), "throughput is not back: {after:?}, {before}");
    Ok(())
}
