//! What dies, hangs, fills up, is cut off or told a wrong time, and that a cluster keeps its promises meanwhile: nothing
//! that was accepted is lost, doubled or out of order, and every ledger is explained.
//!
//! Each test has a cluster and servers of its own, and the judge pushes from the first fault to the last.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

mod away;
mod broadcasts;
mod clocks;
mod disks;
mod figures;
mod flow;
mod kills;
mod network;
mod pauses;
mod slow;
mod stores;
mod walk;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{
    Backing, Layout, Processes, Shape, Stack, Tuning,
    faults::Fault,
    judge::{judge, options_for, pass},
    problems,
};
use storm::scenario::verify::VerifyOptions;

/// Every message's class unless a test says otherwise: what Redis loses, the archive has.
const SAFE: &str = "[saver]\ndurability = \"safe\"\n";

/// Three etcd members, Redis with a replica, MariaDB, all for this test alone.
fn everything() -> Layout {
    Layout { backing: Backing::Own { etcd: 3, mariadb: None, replica: true }, ..Layout::default() }
}

/// Starts a cluster, lets `faults` break it while the judge pushes, and fails unless every promise was kept.
async fn trial(
    layout: Layout,
    toml: &str,
    faults: impl AsyncFnOnce(&Processes) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stack = Stack::start(Shape::Cluster, Tuning { toml: toml.to_owned(), layout }).await?;
    let options = VerifyOptions {
        // The faults' end is the end.
        seconds: Duration::from_secs(24 * 3_600),
        churn: 1.0,
        drain: Duration::from_secs(120),
        // All of them.
        sample: 1_000_000,
        ..options_for(&stack)
    };
    let processes = stack.processes().context("a cluster has processes")?;
    let verdict = judge(options, faults(processes)).await;
    let log = stack.log();
    keep(&log);
    let lines = problems::in_log(&log, &[]);
    let tell = || format!("{}\n(of {} such lines)", lines[..lines.len().min(60)].join("\n"), lines.len());
    pass(&verdict.with_context(tell)?).with_context(tell)?;
    ensure!(!log.contains("panicked at"), "{}", tell());
    // Every process ends in good order after all that.
    let mut stack = stack;
    stack.drain().await
}

/// Where `E2E_LOGS` says, the logs stay after the test.
fn keep(log: &str) {
    if let Some(file) = std::env::var_os("E2E_LOGS") {
        let _ = std::fs::write(file, log);
    }
}

/// One fault after the other, each healed before the next.
async fn tour(
    cluster: &Processes,
    faults: impl IntoIterator<Item = (Fault, Duration)>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    for (fault, time) in faults {
        println!("{:?}: {fault} for {time:?}", begun.elapsed());
        fault.last(cluster, time).await?;
        // What was broken is used again before the next is.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
