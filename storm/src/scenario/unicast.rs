//! `storm unicast`: transient messages to distinct users straight through the rooms' gRPC, as many as a window lets.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    opened::{Opening, open, reasons, write_servers},
    options::{Api, Devices},
};
use crate::{
    fleet::{Fleet, FleetSpec},
    latency::Percentiles,
    load::{Centers, PushPlan, Pusher, RoomOptions, Rooms},
    procfs::Change,
};

/// What to deliver.
#[derive(Debug, Clone, Args)]
pub struct UnicastOptions {
    /// The devices.
    #[command(flatten)]
    pub devices: Devices,
    /// The centers, for tokens.
    #[command(flatten)]
    pub api: Api,
    /// The rooms.
    #[command(flatten)]
    pub room: RoomOptions,
    /// What to send.
    #[command(flatten)]
    pub load: UnicastLoad,
    /// No progress on the terminal
    #[arg(skip)]
    pub quiet: bool,
}

/// How much, and for how long.
#[derive(Debug, Clone, Args)]
pub struct UnicastLoad {
    /// Deliveries per second, on time whatever the rooms do; default: as many as the window lets through
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Most messages between being sent and being received
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub window: u64,
    /// How long
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub seconds: Duration,
    /// Bytes of a payload
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub payload: usize,
    /// Messages in a call at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub batch: usize,
    /// Calls under way at most
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub in_flight: usize,
}

impl Default for UnicastOptions {
    fn default() -> Self {
        super::options::defaults()
    }
}

impl Default for UnicastLoad {
    fn default() -> Self {
        super::options::defaults()
    }
}

/// What came of the messages.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// Sent to rooms.
    pub sent: u64,
    /// Received by their users.
    pub received: u64,
    /// Whose user was not bound.
    pub offline: u64,
    /// Not taken.
    pub failed: u64,
    /// Received per second, from the first sent to the last received.
    pub per_second: f64,
    /// From sending to the room's answer.
    pub accept: Percentiles,
    /// From sending to the user, of all since the devices came.
    pub delivery: Percentiles,
    /// Why some failed.
    pub failures: BTreeMap<String, u64>,
}

/// What came of it all.
#[derive(Debug, Clone, Serialize)]
pub struct UnicastReport {
    /// How the devices came.
    pub opening: Opening,
    /// The messages.
    pub delivered: Delivered,
    /// Memory and processor time of the servers at the end.
    pub servers: Vec<Change>,
}

impl UnicastReport {
    /// Whether every message came.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let Delivered { sent, received, failed, offline, .. } = self.delivered;
        sent > 0 && received == sent && failed == 0 && offline == 0
    }
}

/// Connects, delivers, waits for the last.
///
/// # Errors
/// If no device could be bound, or a worker died.
pub async fn run(options: &UnicastOptions) -> anyhow::Result<UnicastReport> {
    let mut opened = open(&options.devices, &options.api, options.quiet, false).await?;
    let spec = opened.spec.clone();
    let delivered = run_on(&mut opened.fleet, &spec, &options.room, &options.load).await?;
    let servers = opened.servers();
    opened.fleet.stop().await?;
    Ok(UnicastReport { opening: opened.opening, delivered, servers })
}

/// Delivers to devices that are there already.
///
/// # Errors
/// If no device is bound, or a worker died.
pub async fn run_on(
    fleet: &mut Fleet,
    spec: &FleetSpec,
    room: &RoomOptions,
    load: &UnicastLoad,
) -> anyhow::Result<Delivered> {
    /// What has not come by then does not come.
    const LAST: Duration = Duration::from_secs(5);
    let app = fleet.snapshot().await?.app.context("no device knows the app's number")?;
    let centers = Arc::new(Centers::of_rooms(Rooms::new(room, app)?, &spec.app));
    let plan = PushPlan {
        rate: load.rate,
        window: if load.rate.is_some() { u64::MAX } else { load.window.max(1) },
        batch: load.batch.max(1),
        in_flight: load.in_flight.max(1),
        payload: load.payload,
        users: spec.count,
        uid_prefix: spec.uid_prefix.clone(),
        ttl_s: None,
        transient: true,
        keys: false,
        run: spec.run,
    };
    let mut pusher = Pusher::new(centers, plan);
    let (reader, before) = (fleet.reader(), fleet.counts().transients);
    let came = move || reader.counts().transients.saturating_sub(before);
    let start = Instant::now();
    pusher.run(load.seconds, &CancellationToken::new(), &came).await;
    let report = &pusher.report;
    let due = report.sent - report.failed - report.offline;
    fleet.wait(Instant::now() + LAST, |counts| counts.transients - before >= due).await?;
    let took = start.elapsed();
    let received = came();
    let snapshot = fleet.snapshot().await?;
    Ok(Delivered {
        sent: report.sent,
        received,
        offline: report.offline,
        failed: report.failed,
        per_second: received as f64 / took.as_secs_f64().max(1e-9),
        accept: report.accept.percentiles(),
        delivery: snapshot.delivery.percentiles(),
        failures: report.reasons.clone(),
    })
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sent, {} received ({:.0}/s), {} not online, {} failed",
            self.sent, self.received, self.per_second, self.offline, self.failed
        )?;
        writeln!(f, "to the room's answer: {}", self.accept)?;
        writeln!(f, "to the app:           {}", self.delivery)?;
        if !self.failures.is_empty() {
            writeln!(f, "failures: {}", reasons(&self.failures))?;
        }
        Ok(())
    }
}

impl fmt::Display for UnicastReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.opening, self.delivered)?;
        write_servers(f, &self.servers)
    }
}
