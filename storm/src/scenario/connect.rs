//! `storm connect`: opens connections and holds them.

use std::{fmt, time::Duration};

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    opened::{Opening, open, reasons, write_servers},
    options::{Api, Devices},
    progress::{Progress, REFRESH},
};
use crate::{fleet::Counts, procfs::Change};

/// What to connect and how long to stay.
#[derive(Debug, Clone, Args)]
pub struct ConnectOptions {
    /// The devices.
    #[command(flatten)]
    pub devices: Devices,
    /// The centers, for tokens.
    #[command(flatten)]
    pub api: Api,
    /// How long to hold the connections once all are there
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub hold: Duration,
    /// Connections to cut per second meanwhile; they come back
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub churn: f64,
    /// No progress on the terminal
    #[arg(skip)]
    pub quiet: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        super::options::defaults()
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectReport {
    /// How they came.
    pub opening: Opening,
    /// How long they stayed.
    pub held_s: f64,
    /// What happened in all.
    pub counts: Counts,
    /// Connections that ended without being cut by the storm, while it held them.
    pub lost: u64,
    /// Why something failed or ended, and how often.
    pub reasons: std::collections::BTreeMap<String, u64>,
    /// Memory and processor time of the servers at the end.
    pub servers: Vec<Change>,
    /// Growth of their resident memory for each device.
    pub bytes_per_device: Option<f64>,
}

impl ConnectReport {
    /// Whether all devices were bound and stayed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.opening.bound == u64::from(self.opening.devices) && self.lost == 0 && self.counts.gone == 0
    }
}

/// Opens, holds and closes.
///
/// # Errors
/// If nothing could be bound, or a worker died.
pub async fn run(options: &ConnectOptions) -> anyhow::Result<ConnectReport> {
    let mut opened = open(&options.devices, &options.api, options.quiet, false).await?;
    let before = opened.fleet.counts().disconnects;
    if options.churn > 0.0 {
        opened.fleet.churn(options.churn).await?;
    }
    let start = Instant::now();
    let progress = Progress::new(options.quiet, "holding", options.hold.as_secs());
    while start.elapsed() < options.hold {
        let left = options.hold.saturating_sub(start.elapsed());
        tokio::time::sleep(REFRESH.min(left)).await;
        opened.fleet.check()?;
        let counts = opened.fleet.counts();
        progress.set(start.elapsed().as_secs(), format!("{} bound, {} cut", counts.bound, counts.churned));
    }
    drop(progress);
    let servers = opened.servers();
    let snapshot = opened.fleet.snapshot().await?;
    let held_s = start.elapsed().as_secs_f64();
    opened.fleet.stop().await?;
    let grown: i64 = servers.iter().map(|server| server.rss_grown_bytes).sum();
    let bound = snapshot.counts.bound;
    Ok(ConnectReport {
        lost: snapshot.counts.disconnects - before,
        counts: snapshot.counts,
        reasons: snapshot.reasons,
        bytes_per_device: (!servers.is_empty() && bound > 0).then(|| grown as f64 / bound as f64),
        opening: opened.opening,
        held_s,
        servers,
    })
}

impl fmt::Display for ConnectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.opening)?;
        let c = &self.counts;
        writeln!(
            f,
            "held {:.1} s: {} bound at the end, {} lost, {} cut on purpose, {} gone for good",
            self.held_s, c.bound, self.lost, c.churned, c.gone
        )?;
        if !self.reasons.is_empty() {
            writeln!(f, "reasons: {}", reasons(&self.reasons))?;
        }
        write_servers(f, &self.servers)?;
        if let Some(bytes) = self.bytes_per_device {
            writeln!(f, "resident memory of the servers per device at the end: {bytes:.0} bytes")?;
        }
        Ok(())
    }
}
