//! Configuration of `up`: the sections of all six services in one file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use center::Center;
use coordinator::Coordinator;
use dispatcher::Dispatcher;
use register::Register;
use room::Room;
use saver::Saver;
use serde::{Deserialize, Serialize};
use service::{AdminSettings, ExitError, LogSettings, Service, config::Config};

/// Everything that `up` can be told.
pub struct Settings {
    /// Folder for everything that is kept.
    pub data: PathBuf,
    /// Zone of the one room.
    pub zone: String,
    /// How long each service may take to drain.
    pub drain_deadline: Duration,
    /// `[log]`.
    pub log: LogSettings,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// `[dispatcher]`.
    pub dispatcher: <Dispatcher as Service>::Config,
    /// `[room]`.
    pub room: <Room as Service>::Config,
    /// `[register]`.
    pub register: <Register as Service>::Config,
    /// `[coordinator]`.
    pub coordinator: <Coordinator as Service>::Config,
    /// `[saver]`.
    pub saver: <Saver as Service>::Config,
    /// `[center]`.
    pub center: <Center as Service>::Config,
}

/// `[up]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpSection {
    /// Folder for everything that is kept. Default: `longwire-data`.
    data: PathBuf,
    /// Zone of the one room. Default: `default`.
    zone: String,
    /// How long each service may take to drain, in seconds. Default: 10.
    drain_deadline_s: u64,
}

impl Default for UpSection {
    fn default() -> Self {
        // Ten seconds: a person who pressed Ctrl-C waits for it.
        Self { data: PathBuf::from("longwire-data"), zone: "default".to_owned(), drain_deadline_s: 10 }
    }
}

/// Port of the admin server where none is configured: a fixed one, so that the README can name it.
const ADMIN_PORT: u16 = 7900;

impl Settings {
    /// Reads the file, if any, and the environment; `data` of the command line wins.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn load(file: Option<&Path>, data: Option<PathBuf>) -> Result<Self, ExitError> {
        let mut config = Config::load(file)?;
        let admin = if config.has("admin") {
            config.section("admin")?
        } else {
            AdminSettings { listen: SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT)) }
        };
        let up: UpSection = config.section("up")?;
        let settings = Self {
            data: data.unwrap_or(up.data),
            zone: up.zone,
            drain_deadline: Duration::from_secs(up.drain_deadline_s),
            log: config.section("log")?,
            admin,
            dispatcher: config.section("dispatcher")?,
            room: config.section("room")?,
            register: config.section("register")?,
            coordinator: config.section("coordinator")?,
            saver: config.section("saver")?,
            center: config.section("center")?,
        };
        config.finish()?;
        Dispatcher::check(&settings.dispatcher)?;
        Room::check(&settings.room)?;
        Register::check(&settings.register)?;
        Coordinator::check(&settings.coordinator)?;
        Saver::check(&settings.saver)?;
        Center::check(&settings.center)?;
        Ok(settings)
    }
}
