//! A program that runs one service.

use std::{net::ToSocketAddrs as _, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use cluster::{NodeId, StaticPeers};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    Admin, AdminSettings, DiscoverySettings, ExitError, LogSettings, Metrics, Node, NodeSettings,
    RpcSettings, Service, StartError,
    config::{Config, ConfigError},
    exit_code, health, signals, telemetry,
};

#[derive(Parser)]
#[command(version, about = "A service of a Longwire cluster", long_about = None)]
struct Arguments {
    /// Configuration, TOML. Variables LONGWIRE_<SECTION>__<KEY> override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Reads the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    check: bool,
    /// Asks the running process of this configuration whether it is ready: ends with 0 if it is, else with 1.
    #[arg(long, conflicts_with = "check")]
    health: bool,
}

impl From<ConfigError> for ExitError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// The whole of a service's `main`: reads the configuration, serves until SIGTERM or Ctrl-C, drains.
pub fn main<S: Service>() -> ExitCode {
    let program = S::ROLE.as_str();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wrong = error.use_stderr();
            // Help and version go to standard output and are no error.
            let _ = error.print();
            return if wrong { exit_code_usage() } else { ExitCode::SUCCESS };
        }
    };
    exit_code(program, run::<S>(&arguments))
}

fn exit_code_usage() -> ExitCode {
    ExitCode::from(64)
}

/// All sections of a service's configuration.
struct Settings<C> {
    node: NodeSettings,
    log: LogSettings,
    admin: AdminSettings,
    rpc: RpcSettings,
    discovery: DiscoverySettings,
    service: C,
}

fn read<S: Service>(arguments: &Arguments) -> Result<Settings<S::Config>, ExitError> {
    let mut config = Config::load(arguments.config.as_deref())?;
    let settings = Settings {
        node: config.section("node")?,
        log: config.section("log")?,
        admin: config.section("admin")?,
        rpc: config.section("rpc")?,
        discovery: config.section("discovery")?,
        service: config.section(S::ROLE.as_str())?,
    };
    config.finish()?;
    S::check(&settings.service)?;
    Ok(settings)
}

fn run<S: Service>(arguments: &Arguments) -> Result<(), ExitError> {
    if arguments.health {
        let mut config = Config::load(arguments.config.as_deref())?;
        return health::ask(&config.section("admin")?);
    }
    let settings = read::<S>(arguments)?;
    if arguments.check {
        return Ok(());
    }
    let log = telemetry::start(&settings.log)?;
    let runtime = tokio::runtime::Runtime::new().map_err(ExitError::failure)?;
    runtime.block_on(serve::<S>(settings, log))
}

async fn serve<S: Service>(
    settings: Settings<S::Config>,
    log: telemetry::LogFilter,
) -> Result<(), ExitError> {
    let cancel = CancellationToken::new();
    let _stop_all = cancel.clone().drop_guard();
    let DiscoverySettings::Static { peers } = settings.discovery else {
        return Err(StartError::config("discovery.kind", "etcd is not supported yet").into());
    };
    let id = NodeId(settings.node.id()?);
    let own = peers.iter().find(|p| p.role == S::ROLE && p.id == id);
    let own = own.ok_or(cluster::DiscoveryError::NotListed { role: S::ROLE, id });
    let own = own.map_err(StartError::Discovery)?.rpc.clone();
    let listen = match settings.rpc.listen {
        Some(listen) => listen,
        None => own
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| StartError::config("discovery.peers", format!("{own:?} is no host:port")))?,
    };
    let discovery = StaticPeers::start(peers, None, cancel.clone())
        .map_err(|e| StartError::config("discovery.peers", format!("an address is no host:port: {e}")))?;
    let metrics = Metrics::default();
    let node = Node::<S>::start_remote(
        &settings.node,
        settings.service,
        Arc::new(discovery),
        metrics.clone(),
        listen,
        None,
    )
    .await?;
    let tasks = node.host().tasks.clone();
    let admin = Admin::start(
        &settings.admin,
        vec![node.readiness()],
        metrics,
        log,
        &tasks,
        node.host().cancel.clone(),
    )
    .await?;
    info!(rpc = %listen, admin = %admin.address(), "serving");
    let signal = signals::shutdown().await.map_err(ExitError::failure)?;
    info!(signal, "ending");
    node.drain(settings.node.drain_deadline).await;
    Ok(())
}
