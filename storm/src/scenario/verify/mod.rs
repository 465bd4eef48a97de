//! `storm verify`, the judge: numbered messages to every user under load, and then the books.
//!
//! Each user's messages are sent one after the other: the next when the one before has been accepted. A push that
//! is refused for the time being, or whose answer never comes, is repeated with its idempotency key until it is
//! accepted, so that "accepted" is well defined whatever dies meanwhile.

mod callers;
mod check;
mod drive;
mod verdict;

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub use check::Books;
pub use verdict::Verdict;

use self::{callers::Callers, drive::Drive};
use super::{
    opened::{Opened, open},
    options::{Api, Devices},
    progress::{Progress, REFRESH},
};
use crate::{fleet::Counts, judge::Findings};

/// What to do before judging.
#[derive(Debug, Clone, Args)]
pub struct VerifyOptions {
    /// The devices.
    #[command(flatten)]
    pub devices: Devices,
    /// The centers.
    #[command(flatten)]
    pub api: Api,
    /// How long to push
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub seconds: Duration,
    /// Pushes per second, all users together
    #[arg(long, default_value_t = 1000.0, value_name = "PER_SECOND")]
    pub rate: f64,
    /// Broadcasts per second
    #[arg(long, default_value_t = 0.5, value_name = "PER_SECOND")]
    pub broadcasts: f64,
    /// Connections to cut per second; they come back
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub churn: f64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    pub payload: usize,
    /// Pushes in a batch at most
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub batch: usize,
    /// Batches under way at most
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub in_flight: usize,
    /// How long everything may take to arrive after the last push
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub drain: Duration,
    /// How long to wait for late doubles after everything has arrived
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub settle: Duration,
    /// Messages whose ledger is checked, and users whose inbox is
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub sample: usize,
    /// No progress on the terminal
    #[arg(skip)]
    pub quiet: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        super::options::defaults()
    }
}

/// How far a run is, for a harness that kills servers under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Devices connect.
    Opening,
    /// Messages are sent.
    Pushing,
    /// What was accepted is waited for.
    Draining,
    /// The books are compared.
    Judging,
}

/// What a harness holds while a run goes on.
#[derive(Debug, Clone)]
pub struct Control {
    /// Cancelled: stop pushing before the time is over; what was accepted is still judged.
    pub stop: CancellationToken,
    /// How far it is.
    pub phase: watch::Sender<Phase>,
}

impl Default for Control {
    fn default() -> Self {
        Self { stop: CancellationToken::new(), phase: watch::Sender::new(Phase::Opening) }
    }
}

/// Runs to the verdict.
///
/// # Errors
/// If there can be no verdict: devices could not be bound in time, or a worker died.
pub async fn run(options: VerifyOptions) -> anyhow::Result<Verdict> {
    run_with(options, Control::default()).await
}

/// Runs to the verdict, and tells how far it is.
///
/// # Errors
/// As [`run`].
pub async fn run_with(options: VerifyOptions, control: Control) -> anyhow::Result<Verdict> {
    let centers = Arc::new(options.api.connect()?);
    let mut opened = open(&options.devices, &options.api, options.quiet, true).await?;
    if !opened.is_complete() {
        // A broadcast is owed only to who was bound once, so all must be.
        let why = super::opened::reasons(&opened.opening.reasons);
        anyhow::bail!("{} of {} devices could be bound: {why}", opened.opening.bound, opened.opening.devices);
    }
    let _ = control.phase.send_replace(Phase::Pushing);
    opened.fleet.churn(options.churn).await?;
    let callers = Callers::new(options.devices.users, options.sample, opened.spec.seed);
    let mut drive = Drive::new(centers.clone(), callers, &options, &opened.spec);
    pushing(&mut drive, &mut opened, &options, &control.stop).await?;

    let _ = control.phase.send_replace(Phase::Draining);
    opened.fleet.churn(0.0).await?;
    let deadline = Instant::now() + options.drain;
    let settled = drive.settle(deadline).await;
    let arrived = arrive(&drive.callers, &mut opened, deadline, options.quiet).await?;
    tokio::time::sleep(options.settle).await;

    let _ = control.phase.send_replace(Phase::Judging);
    let mut findings = Findings::default();
    let sample = drive.callers.sample().to_vec();
    // Acks that are still on their way belong to the drain, however soon everything else had arrived.
    let until = deadline.max(Instant::now() + check::LEAST);
    let books = check::check(&centers, &options.devices.uid_prefix, &sample, until, &mut findings).await;
    let snapshot = opened.fleet.snapshot().await?;
    findings.merge(snapshot.findings.clone());
    judge(&drive.callers, &mut opened, &mut findings).await?;
    let servers = opened.servers();
    opened.fleet.stop().await?;
    Ok(Verdict {
        settled,
        arrived,
        accepted: drive.callers.accepted(),
        broadcasts_accepted: drive.callers.broadcasts_accepted(),
        refused: drive.callers.refused,
        unsettled: drive.callers.unsettled(),
        retries: drive.callers.retries,
        repeated: drive.callers.repeated,
        books,
        counts: snapshot.counts,
        accept: drive.accept.percentiles(),
        delivery: snapshot.delivery.percentiles(),
        broadcast: snapshot.broadcast.percentiles(),
        failures: drive.failures,
        reasons: snapshot.reasons,
        opening: opened.opening,
        findings,
        servers,
    })
}

async fn pushing(
    drive: &mut Drive,
    opened: &mut Opened,
    options: &VerifyOptions,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let counts = opened.fleet.reader();
    let progress = Progress::new(options.quiet, "pushing", options.seconds.as_secs());
    let start = Instant::now();
    let running = drive.push(options.seconds, stop);
    tokio::pin!(running);
    loop {
        tokio::select! {
            () = &mut running => return Ok(()),
            () = tokio::time::sleep(REFRESH) => {
                opened.fleet.check()?;
                let c = counts.counts();
                progress.set(start.elapsed().as_secs(), format!("{} received, {} bound", c.messages, c.bound));
            }
        }
    }
}

/// Waits until everything that was accepted has come. Doubles may feign that; the books do not believe them.
async fn arrive(
    callers: &Callers,
    opened: &mut Opened,
    deadline: Instant,
    quiet: bool,
) -> anyhow::Result<bool> {
    let messages = callers.accepted();
    let broadcasts = callers.broadcasts_accepted() * u64::from(opened.spec.count);
    let progress = Progress::new(quiet, "draining", messages + broadcasts);
    let all = |counts: &Counts| counts.messages >= messages && counts.broadcasts >= broadcasts;
    loop {
        let look = deadline.min(Instant::now() + REFRESH);
        if opened.fleet.wait(look, all).await? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let counts = opened.fleet.counts();
        progress.set(counts.messages + counts.broadcasts, format!("{} bound", counts.bound));
    }
}

async fn judge(callers: &Callers, opened: &mut Opened, findings: &mut Findings) -> anyhow::Result<()> {
    opened.fleet.receipts(|receipt| callers.judge(&receipt, findings)).await
}
