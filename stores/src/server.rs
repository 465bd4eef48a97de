//! A process of a server: started, killed, paused and started again.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, sleep};

/// Servers start within a second; a machine of two cores may be busy with three other tests.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it is ready: short beside what a start takes.
const PAUSE: Duration = Duration::from_millis(10);

/// A process that can be started again with the same arguments. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    command: Vec<OsString>,
    env: Vec<(String, OsString)>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Program and arguments; not running yet. Its output is appended to `log`.
    pub fn new(name: &str, command: Vec<OsString>, log: PathBuf) -> Self {
        Self { name: name.to_owned(), command, env: Vec::new(), log, child: Mutex::new(None) }
    }

    /// With these variables in its environment.
    #[must_use]
    pub fn with_env(mut self, env: Vec<(String, OsString)>) -> Self {
        self.env = env;
        self
    }

    /// Starts it; does not wait until it is ready.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        ensure!(child.is_none(), "{} runs already", self.name);
        let (program, args) = self.command.split_first().context("no program")?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = crate::command(program)?;
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *child = Some(crate::spawn(command)?);
        Ok(())
    }

    /// Waits until `look` succeeds.
    ///
    /// # Errors
    /// When it ends, or does not get ready within a minute; says what it logged last.
    pub async fn ready(&self, mut look: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}:\n{}", self.name, self.tail());
            }
            match look().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error)
                        .with_context(|| format!("{} is not ready:\n{}", self.name, self.tail()));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// kill -9. Nothing happens when it is not running.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let taken = self.child().take();
        let Some(mut child) = taken else { return Ok(()) };
        child.kill()?;
        while child.try_wait()?.is_none() {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// SIGTERM; how it ended.
    ///
    /// # Errors
    /// When it is not running, or does not end in time.
    pub async fn terminate(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                *self.child() = None;
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} does not end on SIGTERM:\n{}", self.name, self.tail());
            sleep(PAUSE).await;
        }
    }

    /// How it ended, if it was started, not killed, and has ended.
    ///
    /// # Errors
    /// When the process cannot be asked for.
    pub fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child().as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    /// SIGSTOP: it is there and answers nothing, until [`Server::resume`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Paused for so long.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn pause_for(&self, time: Duration) -> anyhow::Result<()> {
        self.pause()?;
        sleep(time).await;
        self.resume()
    }

    /// Sends a signal, by its name without "SIG".
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.name))?;
        let sent =
            std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
        ensure!(sent.success(), "kill -{name} {pid} ({}) failed", self.name);
        Ok(())
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it was started and not killed since.
    pub fn is_running(&self) -> bool {
        self.child().is_some()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
