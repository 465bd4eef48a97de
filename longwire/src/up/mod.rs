//! `longwire up`: all six services in one process, on embedded stores and discovery.
//!
//! The services are the same as in a cluster and call each other over the same gRPC; only the transports between
//! them stay inside the process.

mod banner;
mod demo;
mod lock;
mod settings;

pub use demo::Demo;
pub use settings::Settings;

use std::{net::SocketAddr, sync::Arc};

use center::Center;
use cluster::{Discovery, Embedded, LocalServices, Me};
use coordinator::Coordinator;
use dispatcher::Dispatcher;
use register::Register;
use room::Room;
use saver::Saver;
use service::{Admin, ExitError, Metrics, Node, NodeSettings, Service, StartError, signals, telemetry};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::args;

/// All six services, running in this process.
pub struct Up {
    settings: Settings,
    // In the order in which they drain: first who lets work in, last who stores it.
    dispatcher: Node<Dispatcher>,
    center: Node<Center>,
    room: Node<Room>,
    coordinator: Node<Coordinator>,
    register: Node<Register>,
    saver: Node<Saver>,
    admin: Admin,
    demo: Demo,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// Keeps other processes off the data folder.
    _lock: lock::DataLock,
}

impl Up {
    /// Starts everything and makes the demo app if it is not there.
    ///
    /// # Errors
    /// When the data folder cannot be had for this process alone, a port is taken, or a value is wrong.
    pub async fn start(settings: Settings, log: telemetry::LogFilter) -> Result<Self, StartError> {
        let lock = lock::DataLock::take(&settings.data)?;
        let parts = Parts {
            settings: &settings,
            discovery: Arc::new(Embedded::default()),
            local: LocalServices::default(),
            metrics: Metrics::default(),
        };
        // First who is called, last who calls: nothing is refused because its target is not there yet.
        let saver = parts.start::<Saver>(1, settings.saver.clone()).await?;
        let register = parts.start::<Register>(2, settings.register.clone()).await?;
        let coordinator = parts.start::<Coordinator>(3, settings.coordinator.clone()).await?;
        let room = parts.start::<Room>(4, settings.room.clone()).await?;
        let center = parts.start::<Center>(5, settings.center.clone()).await?;
        let dispatcher = parts.start::<Dispatcher>(6, settings.dispatcher.clone()).await?;
        let nodes: Vec<Arc<Me>> = vec![
            dispatcher.readiness(),
            center.readiness(),
            room.readiness(),
            coordinator.readiness(),
            register.readiness(),
            saver.readiness(),
        ];
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        if settings.log.file.is_some() {
            let hangups = signals::hangups(&tasks, cancel.clone()).map_err(StartError::other)?;
            log.follow(hangups, &parts.metrics, &tasks, cancel.clone());
        }
        let admin =
            Admin::start(&settings.admin, nodes, parts.metrics.clone(), log, &tasks, cancel.clone()).await?;
        let demo = Demo::ensure(&settings.data, center.service()).await?;
        Ok(Self {
            settings,
            dispatcher,
            center,
            room,
            coordinator,
            register,
            saver,
            admin,
            demo,
            tasks,
            cancel,
            _lock: lock,
        })
    }

    /// Where backends call: HTTP and gRPC.
    pub fn api(&self) -> SocketAddr {
        self.center.service().address()
    }

    /// Where devices ask for a room.
    pub fn route(&self) -> SocketAddr {
        self.dispatcher.service().address()
    }

    /// Where devices connect.
    pub fn rooms(&self) -> Vec<String> {
        self.room.readiness().info().endpoints
    }

    /// Health, metrics, log filter, profiles.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The demo app and its key.
    pub fn demo(&self) -> &Demo {
        &self.demo
    }

    /// Ends everything without losing anything.
    pub async fn drain(self) {
        let deadline = self.settings.drain_deadline;
        self.dispatcher.drain(deadline).await;
        self.center.drain(deadline).await;
        self.room.drain(deadline).await;
        self.coordinator.drain(deadline).await;
        self.register.drain(deadline).await;
        self.saver.drain(deadline).await;
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What all six are started with.
struct Parts<'a> {
    settings: &'a Settings,
    discovery: Arc<dyn Discovery>,
    local: LocalServices,
    metrics: Metrics,
}

impl Parts<'_> {
    async fn start<S: Service>(&self, id: u32, config: S::Config) -> Result<Node<S>, StartError> {
        let node = NodeSettings {
            id: Some(id),
            zone: self.settings.zone.clone(),
            data: self.settings.data.clone(),
            drain_deadline: self.settings.drain_deadline,
        };
        Node::start_local(&node, config, self.discovery.clone(), self.local.clone(), self.metrics.clone())
            .await
    }
}

pub(crate) async fn run(args: args::Up) -> Result<(), ExitError> {
    let settings = Settings::load(args.config.as_deref(), args.data)?;
    let log = telemetry::start(&settings.log)?;
    let up = Box::pin(Up::start(settings, log)).await?;
    banner::print(&up);
    let signal = signals::shutdown().await.map_err(ExitError::failure)?;
    info!(signal, "ending");
    banner::draining();
    let drain = up.drain();
    // Whoever asks twice means it.
    tokio::select! {
        () = drain => Ok(()),
        again = signals::shutdown() => Err(ExitError::failure(format!("ended before the drain was done ({})", again.unwrap_or("signal")))),
    }
}
