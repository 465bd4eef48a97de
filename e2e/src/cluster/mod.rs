//! A cluster of real processes: 2 rooms, 2 registers, 2 savers, 2 centers, 1 coordinator, 1 dispatcher, and the
//! servers behind them.

mod certs;
mod clock;
mod config;
mod halves;
mod layout;
mod process;
mod store_set;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

pub use self::{
    clock::Clock,
    halves::{Cut, Halves},
    layout::{Backing, Layout},
    store_set::{OwnStores, StoreSet},
};
use self::{config::Listens, process::Process};
use crate::{
    Proxy,
    stack::{Addresses, Tuning},
    up_process::{describe, finish, longwire},
};

/// A process that is not ready by then will not be: debug builds take about a second.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The drain's own deadline is 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(45);

/// The processes of a cluster, and what is behind them.
#[derive(Debug)]
pub struct Processes {
    nodes: BTreeMap<String, Process>,
    /// Their names, in the order in which they start.
    order: Vec<String>,
    // After the nodes: they end first.
    stores: Option<StoreSet>,
    halves: Option<Halves>,
    folder: PathBuf,
}

impl Processes {
    pub(crate) async fn start(folder: &Path, tuning: &Tuning) -> anyhow::Result<(Self, Addresses)> {
        let layout = &tuning.layout;
        let key = format!("lwk_{}", "e2eTestKey0123456789ABCDEFGHIJKL");
        let key_file = folder.join("demo.key");
        fs::write(&key_file, format!("{key}\n"))?;
        let halves = if layout.halves { Some(Halves::make().await?) } else { None };
        let (certs, stores) = match &layout.backing {
            Backing::Embedded => (None, None),
            backing => {
                let here = halves.as_ref().map(Halves::here);
                let hosts: Vec<_> = here.iter().map(ToString::to_string).collect();
                let certs = certs::Certs::make(folder, &hosts).await?;
                let stores = StoreSet::start(backing, certs.etcd(), here).await?;
                (Some(certs), Some(stores))
            }
        };
        let place = |name: &str| match &halves {
            Some(halves) if layout::in_second_half(name) => IpAddr::V4(halves.address(2)),
            Some(halves) => IpAddr::V4(halves.address(1)),
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let all: Vec<_> =
            layout.names().map(|(role, name)| (role, Listens::at(place(&name)), name)).collect();
        let mut peers = String::new();
        for (id, (role, listens, _)) in all.iter().enumerate() {
            writeln!(peers, "  {{ role = \"{role}\", id = {}, rpc = \"{}\" }},", id + 1, listens.rpc)?;
        }
        let mut addresses = Addresses { api: vec![], route: String::new(), admin: vec![], key };
        let mut nodes = BTreeMap::new();
        for (n, (role, listens, name)) in all.into_iter().enumerate() {
            let mut own = config::of_role(role, folder, &name, &listens, &key_file);
            let mut proxy = None;
            match (&stores, &certs) {
                (Some(stores), Some(certs)) => {
                    if layout.proxied.contains(&name) {
                        let front = (listens.rpc.ip(), stores::ports::free().port()).into();
                        proxy = Some(Proxy::start(front, listens.rpc).await?);
                    }
                    let advertise = proxy.as_ref().map_or(listens.rpc, Proxy::address);
                    own = merge(&own, &config::backed(role, listens.rpc, advertise, stores))?;
                    own = merge(&own, &certs.section(role))?;
                }
                _ => own = merge(&own, &config::embedded(role, u32::try_from(n)? + 1, &peers, folder))?,
            }
            match role {
                "center" => addresses.api.push(format!("http://{}", listens.public)),
                "dispatcher" => addresses.route = format!("http://{}", listens.public),
                _ => {}
            }
            addresses.admin.push(listens.admin);
            let config = folder.join(format!("{name}.toml"));
            fs::write(&config, merge(&own, &only(role, &tuning.toml)?)?)?;
            let half = if layout::in_second_half(&name) { 2 } else { 1 };
            let inside = halves.as_ref().map_or_else(Vec::new, |h| h.inside(half));
            let clock = if layout.clocks.contains(&name) { Some(Clock::new(folder, &name)?) } else { None };
            let process = Process::new(role, &name, folder, &listens, inside, clock, proxy)?;
            nodes.insert(name, process);
        }
        let order = layout.names().map(|(_, name)| name).collect();
        let mut cluster = Self { nodes, order, stores, halves, folder: folder.to_owned() };
        cluster.start_all().await?;
        Ok((cluster, addresses))
    }

    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        for name in &self.order {
            self.spawn(name)?;
        }
        self.ready().await
    }

    pub(crate) fn log(&self) -> String {
        let mut all = String::new();
        for (name, process) in &self.nodes {
            for line in fs::read_to_string(process.server.log()).unwrap_or_default().lines() {
                // Writing to a string does not fail.
                let _ = writeln!(all, "{name}: {line}");
            }
        }
        all
    }

    /// Names of the processes, e.g. `room-2`.
    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    fn node(&self, name: &str) -> anyhow::Result<&Process> {
        self.nodes.get(name).with_context(|| format!("no process {name}"))
    }

    /// Starts a process that was killed.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn spawn(&self, name: &str) -> anyhow::Result<()> {
        self.node(name)?.server.start()
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let process = self.node(name)?;
        if let Some(status) = process.server.ended()? {
            bail!("{name} has ended by itself with {status}:\n{}", process.server.tail());
        }
        process.server.kill().await
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self, name: &str) -> anyhow::Result<()> {
        self.node(name)?.server.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self, name: &str) -> anyhow::Result<()> {
        self.node(name)?.server.resume()
    }

    /// Process id of a running process.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.nodes.get(name)?.server.pid()
    }

    /// What is in front of a process' rpc port, if the layout says so.
    ///
    /// # Errors
    /// When the layout does not.
    pub fn proxy(&self, name: &str) -> anyhow::Result<&Proxy> {
        self.node(name)?.proxy.as_ref().with_context(|| format!("no proxy in front of {name}"))
    }

    /// The clock of a process, if the layout says that it can be changed.
    ///
    /// # Errors
    /// When the layout does not.
    pub fn clock(&self, name: &str) -> anyhow::Result<&Clock> {
        self.node(name)?.clock.as_ref().with_context(|| format!("the clock of {name} cannot be changed"))
    }

    /// The servers that only this cluster uses.
    ///
    /// # Errors
    /// When the layout has none.
    pub fn own_stores(&self) -> anyhow::Result<&OwnStores> {
        let own = self.stores.as_ref().and_then(|s| s.own.as_ref());
        own.context("the cluster shares its stores, or has none")
    }

    /// Whether inboxes are in Redis.
    pub(crate) fn has_stores(&self) -> bool {
        self.stores.is_some()
    }

    /// Folders of the servers' files.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.stores.as_ref().map_or_else(Vec::new, |stores| stores.folders.clone())
    }

    /// The network, if the layout has two halves.
    ///
    /// # Errors
    /// When it has not.
    pub fn halves(&self) -> anyhow::Result<&Halves> {
        self.halves.as_ref().context("the cluster's network is not in halves")
    }

    /// The admin port of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn admin(&self, name: &str) -> anyhow::Result<std::net::SocketAddr> {
        Ok(self.node(name)?.admin)
    }

    /// Lets a process drain by `longwire node drain`; waits until it has ended.
    ///
    /// # Errors
    /// When it does not take the order, ends with an error or not at all.
    pub async fn drain_by_call(&self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name)?;
        let stores = self.stores.as_ref().context("an operator finds the nodes of a cluster by its etcd")?;
        let call = async |words: &[&str]| {
            let mut command = longwire(&self.folder)?;
            let etcd = stores.etcd_endpoints.join(",");
            command.args(words).args(["--etcd", &etcd, "--cluster", &stores.cluster]);
            for (flag, file) in [("--ca", "ca.pem"), ("--cert", "operator.pem"), ("--key", "operator.key")] {
                command.arg(flag).arg(self.folder.join("certs").join(file));
            }
            let output = finish(command).await?;
            ensure!(output.status.success(), "longwire {words:?}: {}", describe(&output));
            anyhow::Ok(output.stdout)
        };
        let nodes: Vec<serde_json::Value> =
            serde_json::from_slice(&call(&["node", "list", "--json"]).await?)?;
        let rpc = node.rpc.to_string();
        let info = nodes.iter().find(|info| info["rpc"] == rpc.as_str());
        let id = info.with_context(|| format!("no node at {rpc}: {nodes:?}"))?["id"].clone();
        call(&["node", "drain", &format!("{}/{id}", node.role)]).await?;
        let what = format!("{name} has ended");
        let ended =
            crate::eventually(&what, ENDS_WITHIN, async || node.server.ended()?.context("it is there yet"));
        let status = ended.await?;
        // It is gone; so is whatever still counts as running here.
        node.server.kill().await?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", node.server.tail());
        Ok(())
    }

    /// Waits until every running process answers that it is ready.
    ///
    /// # Errors
    /// When one ends or does not get there; says what it logged.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let http = crate::api::http();
        for (name, process) in &self.nodes {
            if !process.server.is_running() {
                continue;
            }
            let url = format!("http://{}/readyz", process.admin);
            let ready = process.server.ready(async || {
                let answer = http.get(&url).timeout(Duration::from_secs(2)).send().await?;
                ensure!(answer.status().is_success(), "{name}: {}", answer.text().await?);
                Ok(())
            });
            tokio::time::timeout(READY_WITHIN, ready)
                .await
                .with_context(|| format!("{name} is not ready:\n{}", process.server.tail()))??;
        }
        Ok(())
    }

    /// SIGTERM to one process; waits until it has ended.
    ///
    /// # Errors
    /// When it ends with an error or not at all.
    pub async fn terminate(&self, name: &str) -> anyhow::Result<()> {
        let server = &self.node(name)?.server;
        let status = server.terminate(ENDS_WITHIN).await?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", server.tail());
        Ok(())
    }

    pub(crate) async fn drain(&mut self) -> anyhow::Result<()> {
        for role in ["dispatcher", "center", "room", "coordinator", "register", "saver"] {
            for (name, process) in &self.nodes {
                if process.role == role && process.server.is_running() {
                    self.terminate(name).await?;
                }
            }
        }
        Ok(())
    }
}

/// The sections of `toml` that a process of this role reads.
fn only(role: &str, toml: &str) -> anyhow::Result<String> {
    let table: toml::Table = toml.parse()?;
    let kept: toml::Table = table.into_iter().filter(|(k, _)| k == role || k == "log").collect();
    Ok(toml::to_string(&kept)?)
}

/// `over` on top of `base`, section by section.
pub(crate) fn merge(base: &str, over: &str) -> anyhow::Result<String> {
    fn lay(base: &mut toml::Table, over: toml::Table) {
        for (key, value) in over {
            match (base.get_mut(&key), value) {
                (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay(below, above),
                (_, value) => {
                    base.insert(key, value);
                }
            }
        }
    }
    let mut table: toml::Table = base.parse()?;
    lay(&mut table, over.parse()?);
    Ok(toml::to_string(&table)?)
}
