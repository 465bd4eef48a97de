//! `storm run`: does what a scenario's file says, and reports.

mod broadcasts;
mod ends;
mod runner;
mod sampler;
mod schedule;
mod steps;
mod totals;
mod track;
mod unicast;
mod verdict;
mod view;
mod work;

use std::path::PathBuf;

use clap::Args;

use super::script::Script;
use crate::report::RunReport;

pub use schedule::{Event, Schedule, State};

/// Which scenario, and what to make of it.
#[derive(Debug, Clone, Default, Args)]
pub struct RunOptions {
    /// The scenario, a TOML file
    #[arg(value_name = "SCENARIO")]
    pub scenario: PathBuf,
    /// A setting over what the file says, e.g. fleet.users=5000 or phase.load.rate=100; several times for several
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Only check the scenario, and print it with all its defaults
    #[arg(long)]
    pub check: bool,
}

/// Runs a scenario to its report. The scenario's `fleet.seed` and `fleet.worker_program` should be set by now.
///
/// # Errors
/// If the run cannot begin. What goes wrong later is in the report.
pub async fn run(script: Script, quiet: bool) -> anyhow::Result<RunReport> {
    runner::Runner::begin(script, quiet).await?.run().await
}
