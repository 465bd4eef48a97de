//! A cluster of real processes on free ports: 2 rooms, 2 registers, 2 savers that share one archive, 2 centers,
//! 1 coordinator, 1 dispatcher.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

use crate::{
    ports, program,
    stack::{Addresses, Tuning},
};

/// Role and how many of it.
const NODES: [(&str, u32); 6] =
    [("saver", 2), ("register", 2), ("coordinator", 1), ("room", 2), ("center", 2), ("dispatcher", 1)];
/// A process that is not ready by then will not be: debug builds take about a second.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The processes of a cluster.
pub struct Processes {
    nodes: BTreeMap<String, Process>,
}

struct Process {
    role: &'static str,
    config: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    child: Option<Child>,
}

impl Processes {
    pub(crate) async fn start(folder: &Path, tuning: &Tuning) -> anyhow::Result<(Self, Addresses)> {
        let key = format!("lwk_{}", "e2eTestKey0123456789ABCDEFGHIJKL");
        let key_file = folder.join("demo.key");
        fs::write(&key_file, format!("{key}\n"))?;
        let (mut nodes, mut addresses) =
            (BTreeMap::new(), Addresses { api: vec![], route: String::new(), admin: vec![], key });
        let mut peers = String::from("[discovery]\nkind = \"static\"\npeers = [\n");
        let mut all = vec![];
        let mut id = 0;
        for (role, count) in NODES {
            for n in 1..=count {
                id += 1;
                let rpc = ports::free();
                writeln!(peers, "  {{ role = \"{role}\", id = {id}, rpc = \"{rpc}\" }},")?;
                all.push((role, format!("{role}-{n}"), id));
            }
        }
        peers += "]\n";
        for (role, name, id) in all {
            let admin = ports::free();
            let mut own = format!(
                "[node]\nid = {id}\ndata = {:?}\n[admin]\nlisten = \"{admin}\"\n{peers}",
                folder.join(&name)
            );
            match role {
                "saver" => write!(own, "[saver]\narchive = {:?}\n", folder.join("archive.db"))?,
                "room" => write!(own, "[room]\nlisten = \"{}\"\n", ports::free())?,
                "center" => {
                    let listen = ports::free();
                    addresses.api.push(format!("http://{listen}"));
                    write!(
                        own,
                        "[center]\nlisten = \"{listen}\"\n[center.auth]\nunknown_key_ttl = \"200ms\"\n[center.bootstrap]\napp = \"demo\"\nkey_file = {key_file:?}\n"
                    )?;
                }
                "dispatcher" => {
                    let listen = ports::free();
                    addresses.route = format!("http://{listen}");
                    write!(own, "[dispatcher]\nlisten = \"{listen}\"\n")?;
                }
                _ => {}
            }
            let config = folder.join(format!("{name}.toml"));
            fs::write(&config, merge(&own, &only(role, &tuning.toml)?)?)?;
            addresses.admin.push(admin);
            let log = folder.join(format!("{name}.log"));
            nodes.insert(name, Process { role, config, log, admin, child: None });
        }
        let mut cluster = Self { nodes };
        cluster.start_all().await?;
        Ok((cluster, addresses))
    }

    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        for name in self.names() {
            self.spawn(&name)?;
        }
        self.ready().await
    }

    pub(crate) fn log(&self) -> String {
        let mut all = String::new();
        for (name, process) in &self.nodes {
            for line in fs::read_to_string(&process.log).unwrap_or_default().lines() {
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

    /// Starts a process that was killed.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn spawn(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.nodes.get_mut(name).with_context(|| format!("no process {name}"))?;
        let log = fs::File::options().create(true).append(true).open(&process.log)?;
        let child = Command::new(program(process.role)?)
            .arg("--config")
            .arg(&process.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        process.child = Some(child);
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.nodes.get_mut(name).with_context(|| format!("no process {name}"))?;
        let mut child = process.child.take().with_context(|| format!("{name} is not running"))?;
        child.kill().await?;
        Ok(())
    }

    /// Process id of a running process.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.nodes.get(name)?.child.as_ref()?.id()
    }

    /// Waits until every running process answers that it is ready.
    ///
    /// # Errors
    /// When one ends or does not get there; says what it logged.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        let http = crate::api::http();
        for (name, process) in &mut self.nodes {
            let Some(child) = &mut process.child else { continue };
            loop {
                if let Some(status) = child.try_wait()? {
                    bail!("{name} ended with {status}:\n{}", tail(&process.log));
                }
                let url = format!("http://{}/readyz", process.admin);
                if http.get(&url).send().await.is_ok_and(|r| r.status().is_success()) {
                    break;
                }
                ensure!(
                    tokio::time::Instant::now() < deadline,
                    "{name} is not ready:\n{}",
                    tail(&process.log)
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// SIGTERM to one process; waits until it has ended.
    ///
    /// # Errors
    /// When it ends with an error or not at all.
    pub async fn terminate(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.nodes.get_mut(name).with_context(|| format!("no process {name}"))?;
        let mut child = process.child.take().with_context(|| format!("{name} is not running"))?;
        let pid = child.id().context("it has ended")?;
        let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        ensure!(sent.success(), "kill -TERM {pid} failed");
        let status = tokio::time::timeout(Duration::from_secs(45), child.wait())
            .await
            .with_context(|| format!("{name} does not end on SIGTERM:\n{}", tail(&process.log)))??;
        ensure!(status.success(), "{name} ended with {status}:\n{}", tail(&process.log));
        Ok(())
    }

    pub(crate) async fn drain(&mut self) -> anyhow::Result<()> {
        for role in ["dispatcher", "center", "room", "coordinator", "register", "saver"] {
            for name in self.names() {
                if self.nodes[&name].role == role && self.nodes[&name].child.is_some() {
                    self.terminate(&name).await?;
                }
            }
        }
        Ok(())
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
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
