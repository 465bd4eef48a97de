//! `storm broadcast`: one message to everybody, again and again.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use clap::Args;
use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::v1;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    acks::Acks,
    opened::{Opening, open, reasons, write_servers},
    options::{Api, Devices},
    progress::{Progress, REFRESH},
};
use crate::{
    clock::Clock,
    fleet::{Counts, Tally},
    latency::{Latencies, Percentiles},
    load::Failure,
    payload::{EVERYONE, Header},
    procfs::Change,
};

/// What to broadcast.
#[derive(Debug, Clone, Args)]
pub struct BroadcastOptions {
    /// The devices.
    #[command(flatten)]
    pub devices: Devices,
    /// The centers.
    #[command(flatten)]
    pub api: Api,
    /// Number of broadcasts
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub count: u64,
    /// Broadcasts that not everybody has yet at most: 1 = the next when all have the one before
    #[arg(long, short = 'w', default_value_t = 1, value_name = "N")]
    pub outstanding: u64,
    /// A broadcast counts as complete only when the center has counted an ack of every device
    #[arg(long)]
    pub acked: bool,
    /// Bytes of a payload
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub payload: usize,
    /// Tag expression; default: everyone
    #[arg(long, default_value = "")]
    pub audience: String,
    /// Users a second that a broadcast is released to; default: as fast as the rooms can
    #[arg(long, value_name = "USERS")]
    pub users_per_second: Option<u32>,
    /// Before everything that waits and is not urgent
    #[arg(long)]
    pub urgent: bool,
    /// Seconds that a broadcast lives; default: the app's
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// How long to wait for the next broadcast to be complete before giving up
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub patience: Duration,
    /// No progress on the terminal
    #[arg(skip)]
    pub quiet: bool,
}

impl Default for BroadcastOptions {
    fn default() -> Self {
        super::options::defaults()
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct BroadcastReport {
    /// How the devices came.
    pub opening: Opening,
    /// Outstanding at most.
    pub outstanding: u64,
    /// Accepted by a center.
    pub accepted: u64,
    /// Not accepted.
    pub failed: u64,
    /// Of the accepted: at every device.
    pub complete: u64,
    /// Whether a broadcast was complete only when all acks were counted.
    pub acked: bool,
    /// Deliveries in all.
    pub deliveries: u64,
    /// Per second, from the first broadcast sent to the last delivery.
    pub deliveries_per_second: f64,
    /// From sending to acceptance.
    pub accept: Percentiles,
    /// From sending to each device.
    pub delivery: Percentiles,
    /// From sending to the last device, per broadcast.
    pub last: Percentiles,
    /// Why broadcasts failed.
    pub failures: BTreeMap<String, u64>,
    /// Memory and processor time of the servers at the end.
    pub servers: Vec<Change>,
}

impl BroadcastReport {
    /// Whether every broadcast reached every device.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.accepted > 0 && self.failed == 0 && self.complete == self.accepted
    }
}

/// Connects, broadcasts, waits for the last receiver.
///
/// # Errors
/// If a device could not be bound, or a worker died.
pub async fn run(options: &BroadcastOptions) -> anyhow::Result<BroadcastReport> {
    let centers = Arc::new(options.api.connect()?);
    let mut devices = options.devices.clone();
    if options.acked {
        // The next waits for these acks.
        devices.broadcast_ack_delay = devices.ack_delay;
    }
    let mut opened = open(&devices, &options.api, options.quiet, false).await?;
    anyhow::ensure!(
        opened.is_complete(),
        "not every device could be bound: {}",
        reasons(&opened.opening.reasons)
    );
    let clock = Clock::start();
    let progress = Progress::new(options.quiet, "broadcasting", options.count);
    let (mut calling, mut sent) = (Calling::default(), 0);
    let mut calls = FuturesUnordered::new();
    let mut acks = Acks::new(centers.clone(), u64::from(opened.opening.devices));
    let changed = opened.fleet.changed();
    let (mut complete, mut last_change) = (0, Instant::now());
    let patience = options.patience + takes(opened.opening.devices, options.users_per_second);
    while complete < options.count {
        while sent < options.count && sent - complete < options.outstanding.max(1) {
            sent += 1;
            let header =
                Header { run: opened.spec.run, user: EVERYONE, number: sent, sent_ns: clock.now_ns() };
            let request = v1::BroadcastRequest {
                app: centers.app().to_owned(),
                payload: header.payload(options.payload),
                ttl_s: options.ttl,
                audience: options.audience.clone(),
                users_per_second: options.users_per_second.unwrap_or(0),
                priority: priority(options.urgent).into(),
                ..Default::default()
            };
            let centers = centers.clone();
            let (began, number) = (Instant::now(), sent);
            calls.push(async move {
                let answer = centers.broadcast(request).await.map(|response| (number, response.id));
                (began.elapsed(), answer)
            });
        }
        let arrived = opened.fleet.counts().broadcasts_complete;
        tokio::select! {
            Some((took, answer)) = calls.next() => {
                if let Ok((number, id)) = answer {
                    acks.accepted(number, id);
                }
                calling.note((took, answer.map(drop)));
            }
            followed = acks.follow(arrived), if options.acked => followed?,
            () = changed.notified() => {}
            () = tokio::time::sleep(REFRESH) => opened.fleet.check()?,
        }
        let now_complete =
            if options.acked { acks.complete() } else { opened.fleet.counts().broadcasts_complete };
        if now_complete > complete {
            (complete, last_change) = (now_complete, Instant::now());
            progress.set(complete, "complete");
        }
        if calling.failed > 0 || last_change.elapsed() > patience {
            break;
        }
    }
    drop(progress);
    // A broadcast may be everywhere before its sender hears that it was accepted.
    while let Some((took, answer)) = calls.next().await {
        calling.note((took, answer.map(drop)));
    }
    finish(options, opened, calling).await
}

/// How long a broadcast to so many takes at a speed.
pub(super) fn takes(devices: u32, users_per_second: Option<u32>) -> Duration {
    users_per_second
        .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(f64::from(devices) / f64::from(rate.max(1))))
}

pub(super) fn priority(urgent: bool) -> v1::Priority {
    if urgent { v1::Priority::Urgent } else { v1::Priority::Unspecified }
}

/// The calls to the centers so far.
#[derive(Default)]
struct Calling {
    accepted: u64,
    failed: u64,
    accept: Latencies,
    failures: BTreeMap<String, u64>,
}

impl Calling {
    fn note(&mut self, (took, answer): (Duration, Result<(), Failure>)) {
        match answer {
            Ok(()) => {
                self.accepted += 1;
                self.accept.record(took);
            }
            Err(failure) => {
                self.failed += 1;
                *self.failures.entry(failure.code).or_default() += 1;
            }
        }
    }
}

async fn finish(
    options: &BroadcastOptions,
    mut opened: super::opened::Opened,
    calling: Calling,
) -> anyhow::Result<BroadcastReport> {
    // What was accepted beside a failure still comes.
    let Calling { accepted, failed, accept, failures } = calling;
    let all = accepted * u64::from(opened.opening.devices);
    let everywhere = |counts: &Counts| counts.broadcasts >= all;
    let wait = if failed == 0 { Duration::ZERO } else { options.patience };
    opened.fleet.wait(Instant::now() + wait, everywhere).await?;
    let servers = opened.servers();
    let snapshot = opened.fleet.snapshot().await?;
    opened.fleet.stop().await?;
    let devices = u64::from(opened.opening.devices);
    let (span_s, last) = spans(&snapshot.tallies);
    let deliveries = snapshot.counts.broadcasts;
    Ok(BroadcastReport {
        opening: opened.opening,
        outstanding: options.outstanding,
        acked: options.acked,
        accepted,
        failed,
        complete: snapshot.tallies.iter().filter(|tally| tally.count >= devices).count() as u64,
        deliveries,
        deliveries_per_second: deliveries as f64 / span_s.max(1e-9),
        accept: accept.percentiles(),
        delivery: snapshot.broadcast.percentiles(),
        last: last.percentiles(),
        failures,
        servers,
    })
}

/// Seconds from the first sending to the last delivery, and the time that each broadcast took to its last device.
fn spans(tallies: &[Tally]) -> (f64, Latencies) {
    let mut last = Latencies::default();
    for tally in tallies {
        last.record_ns(tally.last_ns.saturating_sub(tally.sent_ns));
    }
    let from = tallies.iter().map(|tally| tally.sent_ns).min().unwrap_or(0);
    let to = tallies.iter().map(|tally| tally.last_ns).max().unwrap_or(0);
    (to.saturating_sub(from) as f64 / 1e9, last)
}

impl fmt::Display for BroadcastReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.opening)?;
        writeln!(
            f,
            "{} broadcasts accepted, {} failed, {} complete, at most {} outstanding",
            self.accepted, self.failed, self.complete, self.outstanding
        )?;
        writeln!(f, "{} deliveries, {:.0} deliveries/s", self.deliveries, self.deliveries_per_second)?;
        writeln!(f, "to acceptance:     {}", self.accept)?;
        writeln!(f, "to each device:    {}", self.delivery)?;
        writeln!(f, "to the last one:   {}", self.last)?;
        if !self.failures.is_empty() {
            writeln!(f, "failures: {}", reasons(&self.failures))?;
        }
        write_servers(f, &self.servers)
    }
}
