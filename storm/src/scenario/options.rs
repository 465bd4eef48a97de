//! What all scenarios can be told, by flags or, from a test harness, as plain values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    fleet::{FleetSpec, LineOptions, Route, Sources, Tokens, Workers},
    load::{ApiOptions, Centers},
    procfs,
};

/// Where a storm of `up` on the same machine finds the dispatcher.
const DISPATCHER: &str = "http://127.0.0.1:7700";

/// The devices and how they connect. In a scenario file it is the table `[fleet]`, with [`Devices::line`] as `[line]`.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Devices {
    /// Number of users, each with one device
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub users: u32,
    /// Users are called <PREFIX>-0, <PREFIX>-1, and so on
    #[arg(long, default_value = "storm", value_name = "PREFIX")]
    pub uid_prefix: String,
    /// Tags that every device binds with
    #[arg(long = "tag", value_name = "TAG")]
    #[serde(alias = "tag")]
    pub tags: Vec<String>,
    /// Address of a room, several times for several; without it the dispatcher is asked
    #[arg(long = "room", value_name = "HOST:PORT")]
    #[serde(alias = "room")]
    pub rooms: Vec<SocketAddr>,
    /// Base URL of the dispatcher
    #[arg(long, value_name = "URL", default_value = DISPATCHER)]
    pub dispatcher: String,
    /// Secret of the app, to sign device tokens with; without it the center is asked for each token
    #[arg(long, env = "LONGWIRE_APP_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// File that holds the secret
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
    /// New connections per second at most
    #[arg(long, default_value_t = 2000.0, value_name = "PER_SECOND")]
    pub ramp: f64,
    /// Connections that are being opened at the same time at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub opening: u32,
    /// First local address to connect from, when the room is on loopback; following ones are used in turn
    #[arg(long, default_value = "127.1.0.1", value_name = "ADDRESS")]
    pub source: Ipv4Addr,
    /// Connections from each local address
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub per_source: u32,
    /// Heartbeat to ask for; default: the room's
    #[arg(long, value_name = "SECONDS")]
    pub heartbeat: Option<u32>,
    /// How devices are connected.
    #[command(flatten)]
    #[serde(skip)]
    pub line: LineOptions,
    /// How long an ack may wait for others to join it
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    #[serde(with = "humantime_serde")]
    pub ack_delay: Duration,
    /// How long the ack of a broadcast may wait; each waits for a time between half of it and all
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    #[serde(with = "humantime_serde")]
    pub broadcast_ack_delay: Duration,
    /// How long all devices together may take to be bound; default: the ramp and a minute
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    #[serde(with = "humantime_serde::option")]
    pub open_within: Option<Duration>,
    /// Worker processes; default: none if one process may open enough files
    #[arg(long, value_name = "N")]
    pub processes: Option<u32>,
    /// Program to start as a worker process; default: this one
    #[arg(skip)]
    #[serde(skip)]
    pub worker_program: Option<PathBuf>,
    /// Process of a server whose memory and processor time to report; several times for several
    #[arg(long = "pid", value_name = "PID")]
    #[serde(alias = "pid")]
    pub pids: Vec<u32>,
    /// Name of a server's program; all its processes are watched as with --pid
    #[arg(long = "program", value_name = "NAME")]
    #[serde(alias = "program")]
    pub programs: Vec<String>,
    /// Seed of all that happens at random; default: another one each time
    #[arg(long)]
    pub seed: Option<u64>,
}

/// The centers and how to call them. In a scenario file it is the table `[api]`.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Base URL of a center, several times for several
    #[arg(long = "center", value_name = "URL", default_value = "http://127.0.0.1:7800")]
    #[serde(alias = "center")]
    pub centers: Vec<String>,
    /// API key of the app
    #[arg(long, env = "LONGWIRE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// File that holds the API key, e.g. that of the demo app in the data folder of `longwire up`
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Name of the app
    #[arg(long, default_value = "demo", env = "LONGWIRE_APP")]
    pub app: String,
    /// Push by HTTP, one request each, instead of gRPC in batches
    #[arg(long)]
    pub http: bool,
}

#[derive(Parser)]
struct Flags<T: Args> {
    #[command(flatten)]
    options: T,
}

/// What the flags give when none is set.
pub(crate) fn defaults<T: Args>() -> T {
    Flags::<T>::parse_from(["storm"]).options
}

impl Default for Devices {
    fn default() -> Self {
        defaults()
    }
}

impl Default for Api {
    fn default() -> Self {
        defaults()
    }
}

impl Api {
    /// The centers as this key's owner.
    ///
    /// # Errors
    /// If the key is missing, or an address is not legible.
    pub fn connect(&self) -> anyhow::Result<Centers> {
        let key = match (&self.key_file, &self.key) {
            (Some(path), _) => read_line(path)?,
            (None, Some(key)) => key.clone(),
            (None, None) => bail!("an API key is needed: --key, --key-file or LONGWIRE_KEY"),
        };
        Centers::new(&ApiOptions {
            centers: self.centers.clone(),
            key,
            app: self.app.clone(),
            http: self.http,
        })
    }
}

impl Devices {
    /// The seed that was asked for, or a new one.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| rand::rng().random())
    }

    /// How long all devices together may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        // A minute beyond the ramp: servers that start cold, and refusals that are tried again.
        let ramp = Duration::from_secs_f64(f64::from(self.users) / self.ramp.max(1.0));
        self.open_within.unwrap_or(ramp + Duration::from_secs(60))
    }

    /// The servers' processes: those named, and all of the named programs.
    #[must_use]
    pub fn watched(&self) -> Vec<u32> {
        let mut pids = self.pids.clone();
        pids.extend(procfs::of_programs(&self.programs));
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    pub(crate) fn workers(&self) -> Workers {
        Workers { program: self.worker_program.clone(), processes: self.processes }
    }

    /// What the workers are told. Tokens are fetched from `api` when there is no secret.
    pub(crate) async fn spec(&self, api: &Api, seed: u64, receipts: bool) -> anyhow::Result<FleetSpec> {
        ensure!(self.ramp > 0.0, "--ramp must be more than 0");
        let route = match self.rooms.as_slice() {
            [] => Route::Dispatcher(self.dispatcher.clone()),
            rooms => Route::Rooms(rooms.to_vec()),
        };
        Ok(FleetSpec {
            first: 0,
            count: self.users,
            uid_prefix: self.uid_prefix.clone(),
            app: api.app.clone(),
            tags: self.tags.clone(),
            tokens: self.tokens(api).await?,
            route,
            ramp_per_s: self.ramp,
            begin: self.users,
            opening_max: self.opening.max(1),
            sources: Some(Sources { first: self.source, per_address: self.per_source.max(1) }),
            heartbeat_s: self.heartbeat,
            line: self.line.spec()?,
            ack_delay_ms: millis(self.ack_delay),
            broadcast_ack_delay_ms: millis(self.broadcast_ack_delay),
            run: new_run(),
            seed,
            receipts,
            sample_ms: None,
            tell_ms: 1,
        })
    }

    async fn tokens(&self, api: &Api) -> anyhow::Result<Tokens> {
        if let Some(secret) = &self.secret {
            return Ok(Tokens::Secret(secret.clone()));
        }
        if let Some(path) = &self.secret_file {
            let secret = tokio::fs::read_to_string(path)
                .await
                .with_context(|| format!("reading {}", path.display()))?;
            return Ok(Tokens::Secret(secret.trim_end().to_owned()));
        }
        let centers = api.connect().context("without --secret, tokens come from the center")?;
        super::tokens::fetch(&centers, &self.uid_prefix, self.users).await.map(Tokens::Ready)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A file of one line; read once, before anything runs.
fn read_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// A number that the runs of a day do not share: it is in payloads and idempotency keys, and must differ even when
/// a seed is used again.
fn new_run() -> u32 {
    let ns = Clock::start().now_ns();
    // Quarter seconds wrap after 34 years; the random part parts two storms that start together.
    (ns / 250_000_000) as u32 ^ (rand::rng().random::<u32>() << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_gets_the_same_defaults_as_the_command_line() {
        let devices = Devices::default();
        assert_eq!((devices.users, devices.dispatcher.as_str()), (1000, DISPATCHER));
        assert_eq!(devices.patience(), Duration::from_millis(60_500));
        assert_eq!(Api::default().app, "demo");
    }
}
