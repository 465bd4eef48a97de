//! What a run was like: plain data, and the ways to show it.

mod figures;
pub mod html;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    floor::FloorReport,
    latency::Percentiles,
    procfs::{Kernel, Machine},
};

pub use figures::{Figures, Sent};

/// Everything about one run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The scenario's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took.
    pub took_s: f64,
    /// Seed of all that happened at random.
    pub seed: u64,
    /// Number of the run, as in payloads.
    pub run: u32,
    /// Where the storm ran.
    pub machine: Machine,
    /// The storm itself.
    pub storm: StormUse,
    /// What was expected, and what came.
    pub checks: Vec<Check>,
    /// What went wrong with the run itself.
    pub problems: Vec<String>,
    /// The whole run.
    pub whole: Figures,
    /// Each phase.
    pub phases: Vec<PhaseReport>,
    /// The servers' processes at the end, by program.
    pub servers: Vec<ServerUse>,
    /// What the kernel spent before the first connection.
    pub kernel_before: Kernel,
    /// What the kernel allows, if it was measured in the run.
    pub floor: Option<FloorReport>,
    /// Why connections and bindings failed or ended, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Why pushes and broadcasts were not accepted, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Figures over time.
    pub samples: Vec<Sample>,
    /// The scenario as it was run, as TOML, without secrets.
    pub script: String,
}

/// One line of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Of which phase; empty = of the whole run.
    pub phase: String,
    /// The key of the expectation.
    pub key: &'static str,
    /// What was wanted, in words.
    pub wanted: String,
    /// What it was.
    pub got: String,
    /// Whether it is as wanted.
    pub ok: bool,
}

/// One phase.
#[derive(Debug, Clone, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// What it does, as in the file.
    pub kind: &'static str,
    /// When it began, seconds after the run; absent if it never did.
    pub start_s: Option<f64>,
    /// When it ended.
    pub end_s: Option<f64>,
    /// What happened meanwhile. Phases that overlap share what devices did; what was sent is each one's own.
    pub figures: Figures,
    /// What it has to say of itself.
    pub note: String,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// The storm's own cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StormUse {
    /// Version of the program.
    pub version: &'static str,
    /// Devices.
    pub devices: u32,
    /// Threads or processes that held them.
    pub workers: usize,
    /// Resident memory at the end, workers and this process together.
    pub rss_bytes: u64,
    /// The same for each connection that stood.
    pub bytes_per_connection: Option<f64>,
    /// Of it: memory of their own. Fifty workers share the pages of one program, which count in each one's resident memory.
    pub own_bytes: u64,
    /// The same for each connection that stood.
    pub own_bytes_per_connection: Option<f64>,
    /// Processors kept busy on average.
    pub cpus: f64,
}

/// The processes of one program.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServerUse {
    /// The program.
    pub name: String,
    /// Processes of it.
    pub processes: Vec<ProcessUse>,
    /// Growth of their resident memory since before the first connection, all together, for each connection.
    pub bytes_per_connection: Option<f64>,
}

/// One process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProcessUse {
    /// Its number.
    pub pid: u32,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// The most that it ever had when it was looked at.
    pub rss_peak_bytes: u64,
    /// Growth since the run began.
    pub rss_grown_bytes: i64,
    /// Processors kept busy on average.
    pub cpus: f64,
}

/// Figures of one moment, or of the time since the moment before.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Seconds after the run's beginning.
    pub at_s: f64,
    /// Devices whose binding stands.
    pub bound: u64,
    /// Bindings per second.
    pub binds_per_s: f64,
    /// Messages per second that reached their users.
    pub messages_per_s: f64,
    /// Deliveries of broadcasts per second.
    pub deliveries_per_s: f64,
    /// Pushes per second that centers accepted.
    pub accepted_per_s: f64,
    /// Pushes, broadcasts, connections and bindings that failed, and connections that ended unasked, per second.
    pub errors_per_s: f64,
    /// From the beginning of a connection to its binding.
    pub connect: Percentiles,
    /// From the intended sending of a message to the app on the device.
    pub delivery: Percentiles,
    /// Likewise to its ack.
    pub acked: Percentiles,
    /// Likewise for broadcasts, each delivery.
    pub broadcast: Percentiles,
    /// The servers by program.
    pub servers: Vec<ProgramSample>,
    /// The storm itself.
    pub storm: ProgramSample,
    /// The kernel.
    pub kernel: Kernel,
    /// Processors that the kernel kept busy (system calls and interrupts), of the whole machine.
    pub kernel_cpus: f64,
}

/// The processes of one program at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProgramSample {
    /// The program.
    pub name: String,
    /// How many processes.
    pub processes: usize,
    /// Resident memory, all together.
    pub rss_bytes: u64,
    /// Processors kept busy since the moment before, all together.
    pub cpus: f64,
}

impl RunReport {
    /// Whether the run went as it should.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let phases_ok = self.phases.iter().all(|phase| phase.failed.is_none());
        self.problems.is_empty() && phases_ok && self.checks.iter().all(|check| check.ok)
    }

    /// The report as JSON, with the figures that follow from the others.
    ///
    /// # Errors
    /// If a figure cannot be written.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut json = serde_json::to_value(self)?;
        json["ok"] = self.is_ok().into();
        json["floor_ratio"] = self.floor_ratio().into();
        json["kernel_bytes_per_connection"] = self.kernel_bytes_per_connection().into();
        Ok(json)
    }

    /// Messages and deliveries per second of the busiest phase, as a share of the floor's bare loop.
    #[must_use]
    pub fn floor_ratio(&self) -> Option<f64> {
        let floor = self.floor.as_ref()?.sends_per_second;
        let best = self.phases.iter().map(|phase| phase.figures.arrivals_per_s()).fold(0.0, f64::max);
        Some(best / floor.max(1e-9))
    }

    /// The kernel's objects and socket buffers beyond what there was before the first connection, for each connection, at
    /// the moment with the most connections. Both ends, if both are on this machine.
    #[must_use]
    pub fn kernel_bytes_per_connection(&self) -> Option<f64> {
        let most = self.samples.iter().max_by_key(|sample| sample.bound).filter(|sample| sample.bound > 0)?;
        let spent = |kernel: &Kernel| kernel.slab_bytes + kernel.tcp_bytes;
        // Less than before only says that something else on the machine ended meanwhile.
        let grown = spent(&most.kernel).checked_sub(spent(&self.kernel_before)).filter(|grown| *grown > 0)?;
        Some(grown as f64 / most.bound as f64)
    }
}
