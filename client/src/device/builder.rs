//! How a device is put together.

use std::{collections::hash_map::RandomState, future::Future, hash::BuildHasher, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::{
    id::{AppKey, Uid},
    limits::MAX_DEVICE_BYTES,
};

use super::{
    BoxError, Device, Events, TokenProvider, confirmations::Confirmations, driver::Driver, line::Lines,
    token_provider,
};
use crate::{
    config::{Config, Confirm},
    dialer::{Dialer, Source},
    route::{Dispatcher, RouteError},
    session::Session,
    snapshot::Snapshot,
    tls::{Tls, TlsError},
    transport::Transport,
};

/// Events that wait for the app. When as many wait, the connection is not read: the room keeps the rest.
/// Worst case in memory: this many times 1 MiB.
const DEFAULT_EVENT_QUEUE: usize = 256;
/// Commands that wait for the driver, which takes them at once unless it is writing.
const COMMAND_QUEUE: usize = 16;

/// Why a device cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The dispatcher's URL.
    #[error(transparent)]
    Dispatcher(#[from] RouteError),
    /// Neither a dispatcher nor an address.
    #[error("a device needs a dispatcher or at least one address")]
    NoAddress,
    /// The device's name.
    #[error("the device's name has {0} bytes; it must have 1 to {MAX_DEVICE_BYTES}")]
    BadName(usize),
    /// The transport is one within TLS, and the platform does not tell whom to trust.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The WebSocket's path.
    #[error("{0:?} is no path of a WebSocket: it begins with / and has only visible characters")]
    BadPath(String),
}

/// How a device is put together.
pub struct Builder {
    name: Arc<str>,
    dispatcher: Option<String>,
    addresses: Vec<Arc<str>>,
    token: TokenProvider,
    config: Config,
    event_queue: usize,
    saved: Snapshot,
    transport: Transport,
    tls: Option<Tls>,
    path: Arc<str>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            dispatcher: None,
            addresses: Vec::new(),
            token: token_provider(|_, _| async { Err("no token provider was given".into()) }),
            config: Config::default(),
            event_queue: DEFAULT_EVENT_QUEUE,
            saved: Snapshot::default(),
            transport: Transport::default(),
            tls: None,
            path: "/".into(),
        }
    }

    /// Asks this dispatcher (`http://host:port`) where to connect.
    #[must_use]
    pub fn dispatcher(mut self, url: &str) -> Self {
        self.dispatcher = Some(url.to_owned());
        self
    }

    /// Connects to this address (`host:port`) rather than ask a dispatcher; may be said several times.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Connects by this transport; without it, by [`Transport::Native`].
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Whom a transport within TLS trusts; without it, whom the platform trusts. Devices that are given clones of one
    /// resume each other's sessions.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Path of the WebSocket, for a room behind a proxy; without it `/`.
    #[must_use]
    pub fn websocket_path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Asks `provider` for the token of each (app, uid) before a bind, and when the room wants a new one.
    #[must_use]
    pub fn token<F, T>(mut self, provider: F) -> Self
    where
        F: Fn(AppKey, Uid) -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        self.token = token_provider(provider);
        self
    }

    /// Settings other than the defaults.
    ///
    /// With [`Confirm::Auto`], a message counts as done with when the app asks for the next event.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Events that may wait for the app; at least 1.
    #[must_use]
    pub fn event_queue(mut self, events: usize) -> Self {
        self.event_queue = events.max(1);
        self
    }

    /// Continues from where an earlier life of the device stopped.
    #[must_use]
    pub fn restore(mut self, saved: Snapshot) -> Self {
        self.saved = saved;
        self
    }

    /// Starts the device. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing.
    pub fn start(mut self) -> Result<(Device, Events), BuildError> {
        if self.name.is_empty() || self.name.len() > MAX_DEVICE_BYTES {
            return Err(BuildError::BadName(self.name.len()));
        }
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BuildError::BadPath(self.path.as_ref().to_owned()));
        }
        let tls = match self.tls {
            _ if !self.transport.is_secure() => None,
            Some(tls) => Some(tls),
            None => Some(Tls::platform()?),
        };
        let lines = Lines { transport: self.transport, tls, path: self.path, cookie: None };
        let dispatcher = self.dispatcher.as_deref().map(Dispatcher::new).transpose()?;
        let source = match &dispatcher {
            _ if !self.addresses.is_empty() => Source::Fixed(self.addresses),
            Some(_) => Source::Dispatcher,
            None => return Err(BuildError::NoAddress),
        };
        // The driver confirms for the app only what the app has taken out of the queue.
        let auto = self.config.ack.confirm == Confirm::Auto;
        self.config.ack.confirm = Confirm::ByApp;
        let config = Arc::new(self.config);

        // The standard library's source of randomness: jitter needs no better one.
        let seed = RandomState::new().hash_one(&self.name);
        let last_good = self.saved.address.as_deref().map(Into::into);
        let dialer = Dialer::new(source, config.backoff, last_good, seed);
        let session = Session::new(config.clone(), self.name, seed);

        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_queue, events) = mpsc::channel(self.event_queue);
        let confirmations = Arc::new(Confirmations::default());
        let stop = CancellationToken::new();
        let driver = Driver::new(
            (session, dialer, lines, config),
            (dispatcher, self.token, self.saved),
            (command_queue, event_queue, confirmations.clone()),
            stop.clone(),
        );
        let task = tokio::spawn(driver.run());
        let device = Device { commands, _stop_on_drop: stop.clone().drop_guard(), stop, task };
        Ok((device, Events::new(events, confirmations, auto)))
    }
}
