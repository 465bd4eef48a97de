//! Longwire running, in one shape or the other.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    RawDevice,
    api::{ApiClient, App},
    cluster::{Layout, Processes},
    eventually, external,
    in_process::InProcess,
    room_tls,
};

/// How the six services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All in this process, as `longwire up` runs them.
    AllInOne,
    /// Each a process of its own, several of most; as [`Tuning::layout`] says.
    Cluster,
}

/// What a test wants otherwise than the defaults. TOML for the sections of the services, the same in both shapes.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// For example `[saver]\nmax_loads = 2\n`. In the section `[room.tls]`, `{room_cert}` and `{room_key}` stand for the
    /// files of a certificate that is made for the stack, and which its devices trust.
    pub toml: String,
    /// How a cluster is laid out.
    pub layout: Layout,
}

impl Tuning {
    /// These sections.
    pub fn toml(toml: &str) -> Self {
        Self { toml: toml.to_owned(), ..Self::default() }
    }
}

/// Longwire running. It ends, and its folder goes, when it is dropped; [`Stack::drain`] ends it properly.
pub struct Stack {
    running: Running,
    addresses: Addresses,
    // After `running`: the processes end before their folder goes.
    folder: TempDir,
}

enum Running {
    AllInOne(Box<InProcess>),
    Cluster(Box<Processes>),
    /// Not ours to start and stop.
    External,
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
    pub async fn start(shape: Shape, mut tuning: Tuning) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longwire-e2e-").tempdir()?;
        tuning.toml = room_tls::put_in(&tuning.toml, folder.path())?;
        let (running, addresses) = match shape {
            Shape::AllInOne => {
                let (running, addresses) = Box::pin(InProcess::start(folder.path(), &tuning)).await?;
                (Running::AllInOne(Box::new(running)), addresses)
            }
            Shape::Cluster if external::is_named() => (Running::External, external::join().await?),
            Shape::Cluster => {
                let (running, addresses) = Processes::start(folder.path(), &tuning).await?;
                (Running::Cluster(Box::new(running)), addresses)
            }
        };
        let stack = Self { running, addresses, folder };
        stack.settled().await?;
        Ok(stack)
    }

    /// Waits until all parts have found each other: the dispatcher all rooms, the centers the demo app, and the
    /// registers that they are complete.
    async fn settled(&self) -> anyhow::Result<()> {
        let rooms = match self.shape() {
            Shape::AllInOne => 1,
            Shape::Cluster => {
                // Every process asks its peers once a second how they are; by then all have seen all. What a center
                // does not know yet it does not call: a broadcast would reach that room ten seconds later.
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                let nodes = self.processes().map(Processes::names).unwrap_or_default();
                nodes.iter().filter(|name| name.starts_with("room-")).count()
            }
        };
        let within = Duration::from_secs(30);
        // A device is told of a few of many.
        eventually("the dispatcher knows all rooms", within, async || {
            let known = self.rooms().await?;
            anyhow::ensure!(known.len() >= rooms.min(2), "it knows {known:?}");
            Ok(())
        })
        .await?;
        for center in 0..self.addresses.api.len() {
            let api = self.api_of(center);
            // A user for each of the registers, whichever hash they have.
            for n in 0..8 {
                eventually("the registers know who is online", within, async || {
                    let user = api.user(&format!("anyone-{n}")).await?;
                    anyhow::ensure!(user["rebuilding"] == false, "{user}");
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
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
    pub fn processes(&self) -> Option<&Processes> {
        match &self.running {
            Running::Cluster(processes) => Some(processes),
            Running::AllInOne(_) | Running::External => None,
        }
    }

    /// Ends everything as an operator would.
    ///
    /// # Errors
    /// When a process does not end, or ends with an error.
    pub async fn drain(&mut self) -> anyhow::Result<()> {
        let ended = async {
            match &mut self.running {
                Running::AllInOne(running) => {
                    running.drain().await;
                    Ok(())
                }
                Running::Cluster(running) => running.drain().await,
                Running::External => external::not_ours(),
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.context("the drain takes over a minute")?
    }

    /// Ends everything as an operator would and starts it again, on the same folders and ports.
    ///
    /// # Errors
    /// When something does not end or does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.drain().await?;
        self.start_again().await
    }

    /// Starts everything again after a drain.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        match &mut self.running {
            Running::AllInOne(running) => running.start_again().await,
            Running::Cluster(running) => running.start_all().await,
            Running::External => external::not_ours(),
        }?;
        self.settled().await
    }

    /// How its services run.
    pub fn shape(&self) -> Shape {
        match self.running {
            Running::AllInOne(_) => Shape::AllInOne,
            Running::Cluster(_) | Running::External => Shape::Cluster,
        }
    }

    /// A folder for what a test wants to write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What devices trust, in PEM: the certificate of the rooms, if the tuning gave them one.
    ///
    /// # Errors
    /// When it gave none.
    pub fn room_roots(&self) -> anyhow::Result<Vec<u8>> {
        room_tls::roots(self.folder())
    }

    /// Puts a new certificate into the rooms' files.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn renew_room_certificate(&self) -> anyhow::Result<()> {
        room_tls::renew(self.folder())
    }

    /// Folders that hold everything that it has written.
    pub fn folders(&self) -> Vec<PathBuf> {
        let stores = self.processes().map_or_else(Vec::new, Processes::folders);
        [self.folder.path().to_owned()].into_iter().chain(stores).collect()
    }

    /// What the numbers of a new inbox follow, given its first: nothing, but that inboxes in Redis are begun without
    /// asking what they held before, above everything that was given in their partition.
    ///
    /// # Errors
    /// When the first number is not 1 where it must be.
    pub fn before(&self, first: u64) -> anyhow::Result<u64> {
        let in_redis = self.processes().is_some_and(Processes::has_stores) || self.is_external();
        anyhow::ensure!(in_redis || first == 1, "the first number is {first}");
        Ok(first - 1)
    }

    fn is_external(&self) -> bool {
        matches!(self.running, Running::External)
    }

    /// What its services have logged so far.
    pub fn log(&self) -> String {
        match &self.running {
            Running::AllInOne(running) => running.log(),
            Running::Cluster(running) => running.log(),
            Running::External => String::new(),
        }
    }

    /// The room that the dispatcher sends this user to.
    ///
    /// # Errors
    /// When it names none.
    pub async fn room_for(&self, uid: &str) -> anyhow::Result<SocketAddr> {
        let url = format!("{}/v1/route?uid={uid}", self.addresses.route);
        let answer: Value = crate::api::http().get(url).send().await?.json().await?;
        let address =
            answer["endpoints"][0]["address"].as_str().with_context(|| format!("no room: {answer}"))?;
        Ok(address.parse()?)
    }

    /// The sum of a counter or gauge over all processes, `longwire_room_loads_total`, or of those of its series that carry
    /// this label, `outcome="resumed"`.
    ///
    /// # Errors
    /// When a process does not tell its metrics.
    pub async fn metric(&self, name: &str, label: &str) -> anyhow::Result<u64> {
        let mut sum = 0.0;
        for admin in &self.addresses.admin {
            let url = format!("http://{admin}/metrics");
            let text = crate::api::http().get(url).send().await?.text().await?;
            for line in text.lines() {
                let Some((series, value)) = line.rsplit_once(' ') else { continue };
                let (family, labels) = series.split_once('{').unwrap_or((series, ""));
                if family == name && labels.contains(label) {
                    sum += value.parse::<f64>().with_context(|| line.to_owned())?;
                }
            }
        }
        Ok(sum as u64)
    }

    /// All rooms that the dispatcher knows.
    ///
    /// # Errors
    /// When it names none.
    pub async fn rooms(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let url = format!("{}/v1/route?uid=anyone", self.addresses.route);
        let answer: Value = crate::api::http().get(url).send().await?.json().await?;
        let endpoints = answer["endpoints"].as_array().with_context(|| format!("no rooms: {answer}"))?;
        let addresses = endpoints.iter().filter_map(|e| e["address"].as_str());
        Ok(addresses.map(str::parse).collect::<Result<_, _>>()?)
    }

    /// A raw device in the room of this user, bound to the demo app as binding 1.
    ///
    /// # Errors
    /// When it does not get bound.
    pub async fn raw_bound(&self, uid: &str) -> anyhow::Result<RawDevice> {
        let mut device = RawDevice::connect(self.room_for(uid).await?, "raw").await?;
        device.bind(1, "demo", uid, &self.api().token("demo", uid).await?).await?;
        Ok(device)
    }

    /// Creates an app; `extra` are fields of the call besides its name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_app(&self, name: &str, extra: Value) -> anyhow::Result<App> {
        self.api().create_app(name, extra).await
    }
}
