//! The beginning of every scenario: all devices bound.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    options::{Api, Devices},
    progress::{Progress, REFRESH},
};
use crate::{
    fleet::{Counts, Fleet, FleetSpec, Snapshot},
    latency::Percentiles,
    procfs::{Change, Watch},
};

/// Devices that have been opened, and how that went.
pub(crate) struct Opened {
    pub(crate) fleet: Fleet,
    pub(crate) spec: Arc<FleetSpec>,
    pub(crate) opening: Opening,
    watch: Watch,
}

/// How opening all connections went.
#[derive(Debug, Clone, Serialize)]
pub struct Opening {
    /// Devices.
    pub devices: u32,
    /// Of them: bound in the end.
    pub bound: u64,
    /// Threads or processes that held them.
    pub workers: usize,
    /// Seed of all that happened at random.
    pub seed: u64,
    /// Number of the run, as in payloads and idempotency keys.
    pub run: u32,
    /// From the first connection to the last binding.
    pub took_s: f64,
    /// Bindings per second.
    pub per_second: f64,
    /// From the beginning of a connection to its binding.
    pub latency: Percentiles,
    /// Memory and processor time of the servers while the devices came.
    pub servers: Vec<Change>,
    /// Growth of the servers' resident memory, all together, for each bound device.
    pub bytes_per_device: Option<f64>,
    /// Why connections or bindings failed, and how often.
    pub reasons: std::collections::BTreeMap<String, u64>,
}

/// Opens all devices and waits until they are bound.
///
/// # Errors
/// If a worker or a server's process is gone, or not a single device could be bound.
pub(crate) async fn open(
    devices: &Devices,
    api: &Api,
    quiet: bool,
    receipts: bool,
) -> anyhow::Result<Opened> {
    let seed = devices.seed();
    let spec = Arc::new(devices.spec(api, seed, receipts).await?);
    let watch = Watch::start(&devices.watched()).context("looking at the processes given by --pid")?;
    let progress = Progress::new(quiet, "connecting", u64::from(spec.count));
    let start = Instant::now();
    let mut fleet = Fleet::launch(&spec, &devices.workers()).await?;
    let deadline = start + devices.patience();
    let all = u64::from(spec.count);
    let done = |counts: &Counts| counts.ever_bound + counts.gone >= all;
    while !fleet.wait(deadline.min(Instant::now() + REFRESH), done).await? && Instant::now() < deadline {
        let counts = fleet.counts();
        progress
            .set(counts.ever_bound, format!("{} failures", counts.connect_failures + counts.bind_failures));
    }
    let took = start.elapsed();
    let snapshot = fleet.snapshot().await?;
    let opening = Opening::new(&spec, seed, fleet.workers(), took, &snapshot, watch.changes());
    if snapshot.counts.ever_bound == 0 {
        anyhow::bail!("no device could be bound: {}", reasons(&opening.reasons));
    }
    Ok(Opened { fleet, spec, opening, watch })
}

impl Opened {
    /// Whether every device has been bound.
    pub(crate) fn is_complete(&self) -> bool {
        self.opening.bound == u64::from(self.opening.devices)
    }

    /// Memory and processor time of the servers since before the first connection.
    pub(crate) fn servers(&self) -> Vec<Change> {
        self.watch.changes()
    }
}

impl Opening {
    fn new(
        spec: &FleetSpec,
        seed: u64,
        workers: usize,
        took: Duration,
        snapshot: &Snapshot,
        servers: Vec<Change>,
    ) -> Self {
        let bound = snapshot.counts.ever_bound;
        let grown: i64 = servers.iter().map(|server| server.rss_grown_bytes).sum();
        Self {
            devices: spec.count,
            bound,
            workers,
            seed,
            run: spec.run,
            took_s: took.as_secs_f64(),
            per_second: bound as f64 / took.as_secs_f64().max(1e-9),
            latency: snapshot.connect.percentiles(),
            bytes_per_device: (!servers.is_empty() && bound > 0).then(|| grown as f64 / bound as f64),
            servers,
            reasons: snapshot.reasons.clone(),
        }
    }
}

/// Reasons and how often, in one line.
pub(crate) fn reasons(all: &std::collections::BTreeMap<String, u64>) -> String {
    if all.is_empty() {
        return "no reason known".into();
    }
    let each: Vec<_> = all.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
    each.join("; ")
}

pub(crate) fn write_servers(f: &mut fmt::Formatter<'_>, servers: &[Change]) -> fmt::Result {
    for server in servers {
        let mib = server.rss_bytes as f64 / f64::from(1 << 20);
        let grown = server.rss_grown_bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "server {} {}: {mib:.1} MiB resident ({grown:+.1}), {:.2} processors busy",
            server.pid, server.name, server.cpus
        )?;
    }
    Ok(())
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "connected: {} of {} devices in {:.2} s, {:.0}/s  (workers {}, seed {}, run {:08x})",
            self.bound, self.devices, self.took_s, self.per_second, self.workers, self.seed, self.run
        )?;
        writeln!(f, "connect to bound: {}", self.latency)?;
        if !self.reasons.is_empty() {
            writeln!(f, "failures on the way: {}", reasons(&self.reasons))?;
        }
        write_servers(f, &self.servers)?;
        if let Some(bytes) = self.bytes_per_device {
            writeln!(f, "resident memory of the servers per device: {bytes:.0} bytes")?;
        }
        Ok(())
    }
}
