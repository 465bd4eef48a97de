//! Longwire running, in one shape or the other.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{api::ApiClient, in_process::InProcess, processes::Processes};

/// How the six services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All in this process, as `longwire up` runs them.
    AllInOne,
    /// Each a process of its own, several of most.
    Cluster,
}

/// What a test wants otherwise than the defaults. TOML for the sections of the services, the same in both shapes.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// For example `[saver]\nmax_loads = 2\n`.
    pub toml: String,
}

impl Tuning {
    /// These sections.
    pub fn toml(toml: &str) -> Self {
        Self { toml: toml.to_owned() }
    }
}

/// Longwire running. It ends, and its folder goes, when it is dropped; [`Stack::drain`] ends it properly.
pub struct Stack {
    running: Running,
    addresses: Addresses,
    // After `running`: the processes end before their folder goes.
    _folder: TempDir,
}

enum Running {
    AllInOne(InProcess),
    Cluster(Processes),
}

/// Where a stack listens, and the demo app's key.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Base addresses of all centers.
    pub api: Vec<String>,
    /// Base address of the dispatcher.
    pub route: String,
    /// Admin ports of all processes.
    pub admin: Vec<SocketAddr>,
    /// API key of the app `demo`, with all scopes.
    pub key: String,
}

impl Stack {
    /// Starts one and waits until all of it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(shape: Shape, tuning: Tuning) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longwire-e2e-").tempdir()?;
        let (running, addresses) = match shape {
            Shape::AllInOne => {
                let (running, addresses) = InProcess::start(folder.path(), &tuning).await?;
                (Running::AllInOne(running), addresses)
            }
            Shape::Cluster => {
                let (running, addresses) = Processes::start(folder.path(), &tuning).await?;
                (Running::Cluster(running), addresses)
            }
        };
        Ok(Self { running, addresses, _folder: folder })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The HTTP API, as the demo app.
    pub fn api(&self) -> ApiClient {
        ApiClient::new(&self.addresses.api[0], &self.addresses.key)
    }

    /// The HTTP API of the n-th center (counted round).
    pub fn api_of(&self, n: usize) -> ApiClient {
        ApiClient::new(&self.addresses.api[n % self.addresses.api.len()], &self.addresses.key)
    }

    /// The processes, if it has any of its own.
    pub fn processes(&mut self) -> Option<&mut Processes> {
        match &mut self.running {
            Running::Cluster(processes) => Some(processes),
            Running::AllInOne(_) => None,
        }
    }

    /// Ends everything as an operator would.
    ///
    /// # Errors
    /// When a process does not end, or ends with an error.
    pub async fn drain(self) -> anyhow::Result<()> {
        let ended = async {
            match self.running {
                Running::AllInOne(running) => {
                    running.drain().await;
                    Ok(())
                }
                Running::Cluster(running) => running.drain().await,
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.context("the drain takes over a minute")?
    }
}
