//! The command line.

use std::{fmt::Display, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{
    floor::{self, FloorOptions},
    limits,
    report::html,
    scenario::{
        Devices,
        broadcast::{self, BroadcastOptions},
        connect::{self, ConnectOptions},
        push::{self, PushOptions},
        run::{self, RunOptions},
        script::Script,
        unicast::{self, UnicastOptions},
        verify::{self, VerifyOptions},
    },
    worker,
};

/// The scenario ran, and the servers did not do what they should.
const FAILED: u8 = 1;

/// The scenario could not run at all.
const NOT_RUN: u8 = 2;

/// Load generator and judge of Longwire
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    /// Print the report as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Do what a scenario's file says, and report
    Run(RunOptions),
    /// Open connections and hold them
    Connect(Box<ConnectOptions>),
    /// Push to single users, at a rate or with a window
    Push(Box<PushOptions>),
    /// Push to everybody at once, again and again
    Broadcast(Box<BroadcastOptions>),
    /// Push numbered messages under load and judge: nothing lost, doubled or out of order
    Verify(Box<VerifyOptions>),
    /// Send to single users straight through the rooms' gRPC
    Unicast(Box<UnicastOptions>),
    /// Measure what the kernel allows, for comparison
    Floor(FloorOptions),
    /// Hold a part of the devices of another storm
    #[command(name = crate::fleet::SUBCOMMAND, hide = true)]
    Worker,
    /// Be the server of `floor`
    #[command(name = floor::SUBCOMMAND, hide = true)]
    FloorServer(floor::ServerOptions),
}

/// Does what the command line says. Exit code 0: all went well; 1: the servers failed; 2: the storm could not run.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("storm: {error:#}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<bool> {
    let Cli { scenario, json, quiet } = cli;
    match scenario {
        Scenario::Run(options) => run_file(&options, quiet, json),
        Scenario::Worker => worker::run().map(|()| true),
        Scenario::FloorServer(options) => floor::serve(&options).map(|()| true),
        Scenario::Floor(options) => show(&floor::run(&options)?, json).map(|()| true),
        Scenario::Connect(mut options) => {
            options.quiet = quiet;
            start(&mut options.devices)?;
            let report = tokio(connect::run(&options))?;
            show(&report, json).map(|()| report.is_ok())
        }
        Scenario::Push(mut options) => {
            options.quiet = quiet;
            start(&mut options.devices)?;
            let report = tokio(push::run(&options))?;
            show(&report, json).map(|()| report.is_ok())
        }
        Scenario::Broadcast(mut options) => {
            options.quiet = quiet;
            start(&mut options.devices)?;
            let report = tokio(broadcast::run(&options))?;
            show(&report, json).map(|()| report.is_ok())
        }
        Scenario::Unicast(mut options) => {
            options.quiet = quiet;
            start(&mut options.devices)?;
            let report = tokio(unicast::run(&options))?;
            show(&report, json).map(|()| report.is_ok())
        }
        Scenario::Verify(mut options) => {
            options.quiet = quiet;
            start(&mut options.devices)?;
            let verdict = tokio(verify::run(*options))?;
            show(&verdict, json).map(|()| verdict.is_ok())
        }
    }
}

fn run_file(options: &RunOptions, quiet: bool, json: bool) -> anyhow::Result<bool> {
    let mut script = Script::load(&options.scenario, &options.settings)?;
    if options.check {
        print!("{}", script.to_toml());
        return Ok(true);
    }
    start(&mut script.fleet)?;
    let report = tokio(run::run(script, quiet))?;
    if let Some(path) = &options.html {
        std::fs::write(path, html::page(&report)).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("report: {}", path.display());
    }
    if json {
        println!("{:#}", report.to_json()?);
    } else {
        print!("{report}");
    }
    Ok(report.is_ok())
}

/// Says the seed before anything happens, so that it is known however the run ends.
fn start(devices: &mut Devices) -> anyhow::Result<()> {
    let seed = devices.seed();
    devices.seed = Some(seed);
    devices.worker_program = Some(std::env::current_exe()?);
    // Before the first thread, which inherits it.
    limits::pin(&devices.line.cpus)?;
    eprintln!("seed {seed}");
    Ok(())
}

fn tokio<T>(scenario: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // The devices have a thread of their own, and the calls to the centers need little more than one.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(scenario)
}

fn show(report: &(impl Serialize + Display), json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_scenario_reads_its_flags() {
        let cli = Cli::parse_from([
            "storm",
            "verify",
            "-n",
            "5",
            "--rate",
            "10",
            "--json",
            "--room",
            "127.0.0.1:7",
        ]);
        let Scenario::Verify(options) = cli.scenario else { panic!("another scenario") };
        assert_eq!((options.devices.users, options.rate, cli.json), (5, 10.0, true));
        assert!(Cli::try_parse_from(["storm", "push", "-n", "0"]).is_err());
    }
}
