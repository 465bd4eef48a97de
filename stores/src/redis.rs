//! Redis, alone or as a replica.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::{Server, ports, resp};

/// Whether a server that starts again finds what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// It does.
    Keep,
    /// It starts empty.
    Wipe,
}

/// A Redis server with an append-only file that is synced every second.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    addr: SocketAddr,
    // After `server`: the process ends before its folder goes.
    folder: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Like [`Redis::start`], with further arguments of `redis-server`.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start.
    pub async fn start_with(args: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longwire-redis-").tempdir()?;
        let addr = ports::free();
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let port = addr.port().to_string();
        let file = folder.path().join("redis.conf");
        fs::write(&file, "")?;
        let mut command = vec![crate::find("redis-server")?.into_os_string(), file.into_os_string()];
        // Snapshots are off: the append-only file is what survives.
        let own =
            ["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "everysec"];
        // A replica is sent the data at once; by default the primary waits for more of them.
        let replication = ["--repl-diskless-sync-delay", "0"];
        command.extend(own.iter().chain(&replication).chain(args).map(Into::into));
        command.extend(["--save".into(), "".into(), "--dir".into(), data.into_os_string()]);
        let server = Server::new("redis-server", command, folder.path().join("redis.log"));
        let redis = Self { server, addr, folder };
        redis.start_again(Data::Keep).await?;
        Ok(redis)
    }

    /// Starts a replica of `primary` and waits until it has what that has.
    ///
    /// # Errors
    /// When it does not start or does not get in step.
    pub async fn replica_of(primary: &Self) -> anyhow::Result<Self> {
        let replica = Self::start().await?;
        replica.follow(primary).await?;
        Ok(replica)
    }

    /// Waits until this replica is connected with its primary and has what it had.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn in_step(&self) -> anyhow::Result<()> {
        let linked = async || {
            let info = self.call(&["INFO", "replication"]).await?;
            ensure!(info.contains("master_link_status:up"), "not in step: {info}");
            Ok(())
        };
        self.server.ready(linked).await
    }

    /// Makes this replica a primary, for its next lives too.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.starts_as("")?;
        self.call(&["REPLICAOF", "NO", "ONE"]).await?;
        Ok(())
    }

    /// Makes it a replica of `primary`, now and in its next lives; it drops what it has.
    ///
    /// # Errors
    /// When it does not answer or does not get in step.
    pub async fn follow(&self, primary: &Self) -> anyhow::Result<()> {
        let (host, port) = (primary.addr.ip().to_string(), primary.addr.port().to_string());
        self.starts_as(&format!("replicaof {host} {port}\n"))?;
        self.call(&["REPLICAOF", &host, &port]).await?;
        self.in_step().await
    }

    /// Starts it again after it was killed, as a replica of `primary`: at no moment it is a primary beside that.
    ///
    /// # Errors
    /// When it does not start or does not get in step.
    pub async fn come_back_behind(&self, primary: &Self) -> anyhow::Result<()> {
        self.starts_as(&format!("replicaof {} {}\n", primary.addr.ip(), primary.addr.port()))?;
        self.start_again(Data::Keep).await?;
        self.in_step().await
    }

    /// Whether it says that it is a primary.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn is_primary(&self) -> anyhow::Result<bool> {
        Ok(self.call(&["INFO", "replication"]).await?.contains("role:master"))
    }

    /// What its configuration file says from its next start on.
    fn starts_as(&self, line: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.path().join("redis.conf"), line)?)
    }

    /// One command; the text of its answer.
    ///
    /// # Errors
    /// When it does not answer, or with an error.
    pub async fn call(&self, words: &[&str]) -> anyhow::Result<String> {
        resp::call(self.addr, words).await
    }

    /// `redis://HOST:PORT`
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Where it listens; the same after it started again.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Its process: to pause it, for example.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Starts it again after it was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self, data: Data) -> anyhow::Result<()> {
        if data == Data::Wipe {
            let folder = self.data();
            fs::remove_dir_all(&folder)?;
            fs::create_dir(&folder)?;
        }
        self.server.start()?;
        let answers = async || {
            let answer = self.call(&["PING"]).await?;
            ensure!(answer == "PONG", "{answer}");
            Ok(())
        };
        self.server.ready(answers).await.context("starting Redis")
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }
}
