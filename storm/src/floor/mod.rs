//! What the kernel allows on this machine at this moment: a bare loop of `send` over as many sockets, a server that
//! only accepts and answers, and a window of single messages. Every measurement of Longwire is told beside it.

mod client;
mod server;

use std::{
    fmt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;

use crate::{latency::Percentiles, limits, worker::frame};

pub use server::serve;

/// Name of the hidden subcommand that makes a `storm` the floor's server.
pub(crate) const SUBCOMMAND: &str = "floor-server";

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct FloorOptions {
    /// Connections
    #[arg(long, short = 'n', default_value_t = 10_000, value_name = "N")]
    pub connections: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub payload: usize,
    /// How long each of the measurements goes on
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub seconds: Duration,
    /// Messages outstanding in the measurement of single messages
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub window: u32,
    /// Processor for the server, by taskset; the client's is that of `taskset -c N storm floor`
    #[arg(long, value_name = "N")]
    pub server_cpu: Option<u32>,
    /// Program to start as the server; default: this one
    #[arg(skip)]
    pub program: Option<PathBuf>,
}

impl Default for FloorOptions {
    fn default() -> Self {
        crate::scenario::defaults()
    }
}

/// What the kernel allows.
#[derive(Debug, Clone, Serialize)]
pub struct FloorReport {
    /// Connections.
    pub connections: u32,
    /// Bytes of a message.
    pub payload: usize,
    /// Connections opened, each with one request and one answer, per second.
    pub connects_per_second: f64,
    /// The bare loop: sends per second while the server does nothing else, receivers reading meanwhile.
    pub sends_per_second: f64,
    /// Deliveries per second, the next round when all have the one before.
    pub round_by_round_per_second: f64,
    /// Deliveries per second with ten rounds outstanding.
    pub ten_rounds_per_second: f64,
    /// Single messages per second with a window.
    pub singles_per_second: f64,
    /// From the request for a single message to its arrival.
    pub singles: Percentiles,
}

/// Measures; blocks.
///
/// # Errors
/// If there are too many connections for one process, or the server cannot be started.
pub fn run(options: &FloorOptions) -> anyhow::Result<FloorReport> {
    let most = limits::devices_per_process();
    ensure!(options.connections > 0, "the floor needs at least one connection");
    ensure!(
        options.connections <= most,
        "the floor takes at most {most} connections: each process opens them all"
    );
    let mut server = Server::start(options)?;
    let port = server.port()?;
    let report = client::measure(options, port)?;
    server.stop()?;
    Ok(report)
}

struct Server(Child);

impl Server {
    fn start(options: &FloorOptions) -> anyhow::Result<Self> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("finding this program")?,
        };
        let mut command = match options.server_cpu {
            Some(cpu) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", &cpu.to_string()]).arg(program);
                taskset
            }
            None => Command::new(program),
        };
        command.arg(SUBCOMMAND).arg(options.payload.to_string());
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the floor's server")?;
        Ok(Self(child))
    }

    fn port(&mut self) -> anyhow::Result<u16> {
        let mut output = self.0.stdout.take().context("the floor's server has no output")?;
        frame::read(&mut output)?.context("the floor's server ended before it listened")
    }

    /// The server ends with its input.
    fn stop(&mut self) -> anyhow::Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "the floor's server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After an error; when it has been waited for, this does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl fmt::Display for FloorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |rate: f64| rate / self.sends_per_second.max(1e-9);
        writeln!(f, "floor: {} connections, {} bytes", self.connections, self.payload)?;
        writeln!(f, "connect, ask, answer:     {:>9.0}/s", self.connects_per_second)?;
        writeln!(f, "bare loop of send:        {:>9.0}/s  x1.00", self.sends_per_second)?;
        for (name, rate) in [
            ("rounds, one by one (w1): ", self.round_by_round_per_second),
            ("rounds, ten at once (w10):", self.ten_rounds_per_second),
            ("single messages, window: ", self.singles_per_second),
        ] {
            writeln!(f, "{name} {rate:>8.0}/s  x{:.2}", ratio(rate))?;
        }
        writeln!(f, "single messages:  {}", self.singles)
    }
}
