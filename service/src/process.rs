//! A program that runs one service.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use cluster::{
    Peer, Tls, check_peers,
    etcd::{ConfigTexts, EtcdOptions},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    Admin, AdminSettings, DiscoverySettings, ExitError, LogSettings, Metrics, NodeSettings, Readiness,
    RpcSettings, Service, StartError, TlsSettings,
    config::{Config, ConfigError},
    exit_code, health,
    layers::Layers,
    life::{Ended, Life, Process},
    memory::{memory_bound, readable},
    signals, telemetry, tls,
};

#[derive(Parser)]
#[command(version, about = "A service of a Longwire cluster", long_about = None)]
pub(crate) struct Arguments {
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
pub(crate) struct Settings {
    pub(crate) node: NodeSettings,
    log: LogSettings,
    admin: AdminSettings,
    pub(crate) rpc: RpcSettings,
    tls: TlsSettings,
    pub(crate) discovery: Membership,
    /// The role's own section.
    pub(crate) layers: Layers,
}

/// `[discovery]`, judged.
pub(crate) enum Membership {
    Static(Vec<Peer>),
    Etcd(EtcdOptions),
}

pub(crate) fn read<S: Service>(arguments: &Arguments) -> Result<Settings, ExitError> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if !config.has("tls") {
        let reason = "must say how the services trust each other: mode = \"mutual\" with ca, cert and key, or mode = \"plaintext\"";
        return Err(StartError::config("tls", reason).into());
    }
    let (node, tls) = (config.section::<NodeSettings>("node")?, config.section("tls")?);
    let rpc = config.section::<RpcSettings>("rpc")?;
    let discovery = match config.section("discovery")? {
        DiscoverySettings::Static { peers } => {
            node.id()?;
            check_peers(&peers).map_err(|reason| StartError::config("discovery.peers", reason))?;
            Membership::Static(peers)
        }
        DiscoverySettings::Etcd(settings) => {
            if node.id.is_some() {
                node.id()?;
            }
            rpc.addresses()?;
            Membership::Etcd(settings.options(&tls)?)
        }
    };
    let settings = Settings {
        node,
        log: config.section("log")?,
        admin: config.section("admin")?,
        rpc,
        tls,
        discovery,
        layers: Layers::take::<S>(&mut config),
    };
    config.finish()?;
    // What the cluster may lay over it comes later; this much has to be right by itself.
    settings.layers.read::<S>(&ConfigTexts::default())?;
    Ok(settings)
}

fn run<S: Service>(arguments: &Arguments) -> Result<(), ExitError> {
    if arguments.health {
        let mut config = Config::load(arguments.config.as_deref())?;
        return health::ask(&config.section("admin")?);
    }
    let settings = read::<S>(arguments)?;
    let tls = tls::open(&settings.tls, S::ROLE)?;
    if arguments.check {
        tell_memory::<S>(&settings)?;
        return Ok(());
    }
    let log = telemetry::start(&settings.log)?;
    let runtime = tokio::runtime::Runtime::new().map_err(ExitError::failure)?;
    let ended = runtime.block_on(serve::<S>(settings, tls, log.clone()));
    drop(runtime);
    // The last to go: it is flushed then.
    drop(log);
    ended
}

/// What the configuration allows, as far as it is known without the cluster.
fn tell_memory<S: Service>(settings: &Settings) -> Result<(), ExitError> {
    let config = settings.layers.read::<S>(&ConfigTexts::default())?;
    let nodes = match &settings.discovery {
        Membership::Static(peers) => peers.len(),
        Membership::Etcd(_) => 0,
    };
    let (alone, more) = (memory_bound::<S>(&config, nodes), memory_bound::<S>(&config, nodes + 1));
    println!(
        "memory: at most {} with {nodes} nodes in the cluster, and {} for each one more",
        readable(alone),
        readable(more - alone)
    );
    Ok(())
}

async fn serve<S: Service>(
    settings: Settings,
    tls: Option<Tls>,
    log: telemetry::LogFilter,
) -> Result<(), ExitError> {
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let stop_all = cancel.clone().drop_guard();
    let end = CancellationToken::new();
    tasks.spawn(end_on_signal(end.clone(), cancel.clone()));
    let hangups = signals::hangups(&tasks, cancel.clone()).map_err(ExitError::failure)?;
    let (metrics, readiness) = (Metrics::default(), Readiness::default());
    // Before anything that may have to wait, so that it can be seen that the process waits.
    let admin = Admin::start(
        &settings.admin,
        readiness.clone(),
        metrics.clone(),
        log.clone(),
        &tasks,
        cancel.clone(),
    )
    .await?;
    info!(admin = %admin.address(), "starting");
    let process = Process { settings, tls, log, hangups, metrics, readiness, end };
    let mut life = Life::First;
    while let Ended::IdLost = process.live::<S>(life).await? {
        life = Life::Another;
    }
    drop(stop_all);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// From the first moment on, so that no signal is lost between two who wait for one.
async fn end_on_signal(end: CancellationToken, cancel: CancellationToken) {
    match cancel.run_until_cancelled(signals::shutdown()).await {
        Some(Ok(signal)) => {
            info!(signal, "ending");
            end.cancel();
        }
        Some(Err(error)) => {
            tracing::error!(%error, "cannot listen for signals");
            end.cancel();
        }
        None => {}
    }
}
