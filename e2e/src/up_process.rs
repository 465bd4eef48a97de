//! `longwire up` as a process, and the other commands beside it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

use stores::ports;

use crate::{api::ApiClient, program, wait::eventually};

/// A debug build takes about two seconds, and another test may run beside it.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// No command takes longer, unless it hangs.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// `longwire up` in a folder of its own, on ports of its own, which stay the same over restarts.
pub struct UpProcess {
    folder: PathBuf,
    config: PathBuf,
    ports: UpPorts,
    child: Option<Child>,
    starts: u32,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct UpPorts {
    /// Center.
    pub api: SocketAddr,
    /// Dispatcher.
    pub route: SocketAddr,
    /// Room.
    pub room: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

impl UpPorts {
    /// Free ones.
    pub fn free() -> Self {
        Self { api: ports::free(), route: ports::free(), room: ports::free(), admin: ports::free() }
    }

    /// The configuration that says so.
    pub fn toml(&self) -> String {
        format!(
            "[admin]\nlisten = \"{}\"\n[center]\nlisten = \"{}\"\n[dispatcher]\nlisten = \"{}\"\n[room]\nlisten = \"{}\"\n",
            self.admin, self.api, self.route, self.room
        )
    }
}

impl UpProcess {
    /// Starts one in `folder` and waits for its banner.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: &Path, tuning: &str) -> anyhow::Result<Self> {
        let ports = UpPorts::free();
        let config = folder.join("up.toml");
        fs::write(&config, crate::cluster::merge(&ports.toml(), tuning)?)?;
        let mut up = Self { folder: folder.to_owned(), config, ports, child: None, starts: 0 };
        up.start_again().await?;
        Ok(up)
    }

    /// Starts it once more, after it ended, and waits for its banner.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let within = UP_WITHIN;
        let ended = eventually("the banner of `longwire up`", within, async || {
            if let Some(status) = self.child.as_mut().context("not started")?.try_wait()? {
                return Ok(Some(status));
            }
            // Its last line.
            ensure!(self.banner().contains("curl -s "), "not there yet");
            Ok(None)
        })
        .await
        .with_context(|| self.log())?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("`longwire up` ended with {status}:\n{}", self.log()),
        }
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        let out = fs::File::create(self.file("out"))?;
        let log = fs::File::create(self.file("log"))?;
        let child = Command::new(program("longwire")?)
            .args(["up", "--data"])
            .arg(self.data())
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("up-{}.{kind}", self.starts))
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where it listens.
    pub fn ports(&self) -> UpPorts {
        self.ports
    }

    /// What it has printed since its last start.
    pub fn banner(&self) -> String {
        fs::read_to_string(self.file("out")).unwrap_or_default()
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// What it has logged in all its lives.
    pub fn all_logs(&self) -> String {
        (1..=self.starts)
            .filter_map(|n| fs::read_to_string(self.folder.join(format!("up-{n}.log"))).ok())
            .collect()
    }

    /// Process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.as_ref().and_then(Child::id).context("`longwire up` does not run")
    }

    /// kill -9; waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("`longwire up` does not run")?;
        ensure!(child.try_wait()?.is_none(), "`longwire up` ended by itself:\n{}", self.log());
        child.kill().await?;
        Ok(())
    }

    /// Sends a signal (`TERM`, `INT`); waits until it has ended.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&mut self, signal: &str) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("`longwire up` does not run")?;
        let pid = child.id().context("`longwire up` ended by itself")?;
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().await?;
        ensure!(sent.success(), "kill -{signal} {pid} failed");
        let ended = tokio::time::timeout(Duration::from_secs(45), child.wait()).await;
        Ok(ended.with_context(|| format!("it does not end on SIG{signal}:\n{}", self.log()))??)
    }

    /// The demo app's key, from the file that the banner names.
    ///
    /// # Errors
    /// When it is not there.
    pub fn key(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.data().join("demo.key"))?.trim().to_owned())
    }

    /// The HTTP API as the demo app.
    ///
    /// # Errors
    /// When there is no key yet.
    pub fn api(&self) -> anyhow::Result<ApiClient> {
        Ok(ApiClient::new(&format!("http://{}", self.ports.api), &self.key()?))
    }

    /// A `longwire` command that finds this one: `longwire <command> --data … --api … <arguments>`.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn command(&self, command: &str, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut call = longwire(&self.folder)?;
        call.args(command.split(' '));
        call.arg("--data").arg(self.data()).args(["--api", &format!("http://{}", self.ports.api)]);
        if command == "listen" {
            call.args(["--route", &format!("http://{}", self.ports.route)]);
        }
        call.args(arguments);
        Ok(call)
    }

    /// Runs such a command to its end, which must be a good one; what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run(&self, command: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = finish(self.command(command, arguments)?).await?;
        ensure!(output.status.success(), "longwire {command} {arguments:?}: {}", describe(&output));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The `longwire` program, to be run in `folder`, without any settings of whoever runs the tests.
///
/// # Errors
/// When it is not there.
pub fn longwire(folder: &Path) -> anyhow::Result<Command> {
    let mut call = Command::new(program("longwire")?);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LONGWIRE_")) {
        call.env_remove(name);
    }
    call.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    Ok(call)
}

/// Runs a command to its end.
///
/// # Errors
/// When it does not end.
pub async fn finish(mut command: Command) -> anyhow::Result<Output> {
    let output = tokio::time::timeout(DONE_WITHIN, command.output());
    Ok(output.await.with_context(|| format!("{:?} does not end", command.as_std()))??)
}

/// How a command ended, for messages.
pub fn describe(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\nstandard output: {out}\nstandard error: {err}", output.status)
}
