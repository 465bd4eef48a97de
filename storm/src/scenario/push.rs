//! `storm push`: messages to single users, at a rate or as fast as a window lets them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    opened::{Opening, open, reasons, write_servers},
    options::{Api, Devices},
    progress::{Progress, REFRESH},
};
use crate::{
    fleet::Fleet,
    latency::Percentiles,
    load::{PushPlan, Pusher},
    procfs::Change,
};

/// What to push.
#[derive(Debug, Clone, Args)]
pub struct PushOptions {
    /// The devices.
    #[command(flatten)]
    pub devices: Devices,
    /// The centers.
    #[command(flatten)]
    pub api: Api,
    /// Pushes per second, on time whatever the servers do; default: as many as the window lets through
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Most pushes between being sent and being received; default: 1000, and with --rate no limit
    #[arg(long, value_name = "N")]
    pub window: Option<u64>,
    /// How long
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub seconds: Duration,
    /// Bytes of a payload
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub payload: usize,
    /// Pushes in a batch at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub batch: usize,
    /// Batches under way at most
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub in_flight: usize,
    /// Seconds that a message lives; default: the app's
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// Only to who is online; never stored
    #[arg(long)]
    pub transient: bool,
    /// With an idempotency key each
    #[arg(long)]
    pub keys: bool,
    /// How long to wait at the end for what was accepted
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub drain: Duration,
    /// No progress on the terminal
    #[arg(skip)]
    pub quiet: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        super::options::defaults()
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct PushReport {
    /// How the devices came.
    pub opening: Opening,
    /// Pushes per second that were asked for.
    pub offered_per_second: Option<f64>,
    /// How long pushes were sent.
    pub pushed_s: f64,
    /// Sent, accepted, not accepted.
    pub sent: u64,
    /// Accepted by a center.
    pub accepted: u64,
    /// Not accepted.
    pub failed: u64,
    /// Not online (transient only).
    pub offline: u64,
    /// Received by the app on the device.
    pub received: u64,
    /// Covered by an ack that the device sent.
    pub acked: u64,
    /// Accepted per second while pushes were sent.
    pub accepted_per_second: f64,
    /// Acked per second, from the first push to the last ack (transient: received).
    pub finished_per_second: f64,
    /// From the intended time of sending to acceptance.
    pub accept: Percentiles,
    /// To the app on the device.
    pub delivery: Percentiles,
    /// To the device's ack.
    pub ack: Percentiles,
    /// Why pushes failed.
    pub failures: BTreeMap<String, u64>,
    /// Memory and processor time of the servers at the end.
    pub servers: Vec<Change>,
}

impl PushReport {
    /// Whether all that was accepted arrived.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.accepted > 0 && self.failed == 0 && self.received == self.accepted - self.offline
    }
}

/// Connects, pushes, waits for the last acks.
///
/// # Errors
/// If nothing could be bound, or a worker died.
pub async fn run(options: &PushOptions) -> anyhow::Result<PushReport> {
    let centers = Arc::new(options.api.connect()?);
    let mut opened = open(&options.devices, &options.api, options.quiet, false).await?;
    let window = options.window.unwrap_or(if options.rate.is_some() { u64::MAX } else { 1000 });
    let plan = PushPlan {
        rate: options.rate,
        window,
        batch: options.batch.max(1),
        in_flight: options.in_flight.max(1),
        payload: options.payload,
        users: options.devices.users,
        uid_prefix: options.devices.uid_prefix.clone(),
        ttl_s: options.ttl,
        transient: options.transient,
        keys: options.keys,
        run: opened.spec.run,
    };
    let mut pusher = Pusher::new(centers, plan);
    let start = Instant::now();
    push(&mut pusher, &mut opened.fleet, options).await?;
    let pushed_s = start.elapsed().as_secs_f64().min(options.seconds.as_secs_f64());
    let accepted = pusher.report.accepted - pusher.report.offline;
    let deadline = Instant::now() + options.drain;
    let transient = options.transient;
    let all = move |counts: &crate::fleet::Counts| {
        let finished = if transient { counts.transients } else { counts.acked };
        finished >= accepted
    };
    opened.fleet.wait(deadline, all).await?;
    let elapsed = start.elapsed().as_secs_f64();
    let servers = opened.servers();
    let snapshot = opened.fleet.snapshot().await?;
    opened.fleet.stop().await?;
    let counts = snapshot.counts;
    let received = if transient { counts.transients } else { counts.messages };
    let finished = if transient { counts.transients } else { counts.acked };
    let report = pusher.report;
    Ok(PushReport {
        opening: opened.opening,
        offered_per_second: options.rate,
        pushed_s,
        sent: report.sent,
        accepted: report.accepted,
        failed: report.failed,
        offline: report.offline,
        received,
        acked: counts.acked,
        accepted_per_second: report.accepted as f64 / pushed_s.max(1e-9),
        finished_per_second: finished as f64 / elapsed.max(1e-9),
        accept: report.accept.percentiles(),
        delivery: snapshot.delivery.percentiles(),
        ack: snapshot.acked.percentiles(),
        failures: report.reasons,
        servers,
    })
}

async fn push(pusher: &mut Pusher, fleet: &mut Fleet, options: &PushOptions) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let counts = fleet.reader();
    let returned = || {
        let counts = counts.counts();
        counts.messages + counts.transients
    };
    let progress = Progress::new(options.quiet, "pushing", options.seconds.as_secs());
    let start = Instant::now();
    let running = pusher.run(options.seconds, &cancel, &returned);
    tokio::pin!(running);
    loop {
        tokio::select! {
            () = &mut running => return Ok(()),
            () = tokio::time::sleep(REFRESH) => {
                fleet.check()?;
                progress.set(start.elapsed().as_secs(), format!("{} received", returned()));
            }
        }
    }
}

impl fmt::Display for PushReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.opening)?;
        match self.offered_per_second {
            Some(rate) => {
                writeln!(f, "offered {rate:.0} pushes/s for {:.1} s: {} sent", self.pushed_s, self.sent)?;
            }
            None => writeln!(f, "pushed with a window for {:.1} s: {} sent", self.pushed_s, self.sent)?,
        }
        writeln!(
            f,
            "accepted {} ({:.0}/s), failed {}, received {}, acked {}, finished {:.0}/s",
            self.accepted,
            self.accepted_per_second,
            self.failed,
            self.received,
            self.acked,
            self.finished_per_second
        )?;
        if self.offline > 0 {
            writeln!(f, "not online: {}", self.offline)?;
        }
        writeln!(f, "to acceptance: {}", self.accept)?;
        writeln!(f, "to the app:    {}", self.delivery)?;
        writeln!(f, "to the ack:    {}", self.ack)?;
        if !self.failures.is_empty() {
            writeln!(f, "failures: {}", reasons(&self.failures))?;
        }
        write_servers(f, &self.servers)
    }
}
