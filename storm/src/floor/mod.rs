//! What the kernel allows on this machine at this moment: a bare loop of `send` over as many sockets, and a server that
//! does the least that each of a room's tasks needs. Every measurement of Longwire is told beside it, line by line.

mod client;
mod report;
mod server;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{limits, procfs, worker::frame};

pub use report::FloorReport;
pub use server::{ServerOptions, serve};

/// Name of the hidden subcommand that makes a `storm` the floor's server.
pub(crate) const SUBCOMMAND: &str = "floor-server";

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct FloorOptions {
    /// Connections
    #[arg(long, short = 'n', default_value_t = 18_000, value_name = "N")]
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
    /// Processor for the server
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// Processor for the receivers
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,
    /// Program to start as the server; default: this one
    #[arg(skip)]
    pub program: Option<PathBuf>,
}

impl Default for FloorOptions {
    fn default() -> Self {
        crate::scenario::defaults()
    }
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
    // The server first: it would inherit the receivers' processor.
    let mut server = Server::start(options)?;
    limits::pin(&Vec::from_iter(options.pin))?;
    let port = server.port()?;
    let report = client::measure(options, port, || server.resident())?;
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
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).arg(options.payload.to_string());
        if let Some(cpu) = options.server_cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
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

    /// Resident memory, bytes.
    fn resident(&self) -> anyhow::Result<u64> {
        Ok(procfs::usage(self.0.id()).context("looking at the floor's server")?.rss_bytes)
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
