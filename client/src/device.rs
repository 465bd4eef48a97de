//! A device on tokio: one task that owns the connection, the session and the dialer.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::id::{AppKey, BindingId, Uid};

mod builder;
mod confirmations;
mod connection;
mod driver;
mod events;
mod line;

pub use builder::{BuildError, Builder};
pub use events::Events;

use crate::{
    session::{Traits, UpError},
    snapshot::Snapshot,
};

/// What a token provider may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the token of (app, uid).
pub(crate) type TokenProvider =
    Arc<dyn Fn(AppKey, Uid) -> BoxFuture<'static, Result<String, BoxError>> + Send + Sync>;

/// The device has been closed, or its dialer has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device is closed")]
pub struct Closed;

/// Why [`Device::up`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceUpError {
    /// The device is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The frame was not taken.
    #[error(transparent)]
    Refused(#[from] UpError),
}

/// What the app asks of the driver.
pub(crate) enum Command {
    Bind { app: AppKey, uid: Uid, traits: Arc<Traits>, answer: oneshot::Sender<BindingId> },
    Unbind(BindingId),
    Rebind(BindingId),
    Up { binding: BindingId, kind: Arc<str>, payload: Bytes, answer: oneshot::Sender<Result<u64, UpError>> },
    Snapshot(oneshot::Sender<Snapshot>),
}

/// A device: keeps a connection to a room, and binds, acks and reconnects by itself.
///
/// Dropping it closes the connection without waiting; [`close`](Self::close) waits.
pub struct Device {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: JoinHandle<Snapshot>,
    _stop_on_drop: DropGuard,
}

impl Device {
    /// Begins to build the device of the installation `name` (1 to 128 bytes, stable).
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// Adds a binding, now and on every connection to come. `Event::Bound` tells when it stands.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn bind(
        &self,
        app: AppKey,
        uid: Uid,
        tags: impl IntoIterator<Item = String>,
    ) -> Result<BindingId, Closed> {
        self.bind_with(app, uid, Traits::tags(tags)).await
    }

    /// Likewise, with all that broadcasts may select by: tags and the app's version.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn bind_with(&self, app: AppKey, uid: Uid, traits: Traits) -> Result<BindingId, Closed> {
        let traits = Arc::new(traits);
        self.ask(|answer| Command::Bind { app, uid, traits, answer }).await
    }

    /// Takes a binding away. `Event::Unbound` tells when it is gone.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn unbind(&self, binding: BindingId) -> Result<(), Closed> {
        self.commands.send(Command::Unbind(binding)).await.map_err(|_| Closed)
    }

    /// Binds again what was replaced, kicked or given up.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn rebind(&self, binding: BindingId) -> Result<(), Closed> {
        self.commands.send(Command::Rebind(binding)).await.map_err(|_| Closed)
    }

    /// Sends data to the app's backend, at least once. `Event::UpDone` with the number returned here tells
    /// what became of it.
    ///
    /// # Errors
    /// [`DeviceUpError`]
    pub async fn up(&self, binding: BindingId, kind: &str, payload: Bytes) -> Result<u64, DeviceUpError> {
        let kind = kind.into();
        Ok(self.ask(|answer| Command::Up { binding, kind, payload, answer }).await??)
    }

    /// The places to keep over a restart, as far as the app has confirmed.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn snapshot(&self) -> Result<Snapshot, Closed> {
        self.ask(Command::Snapshot).await
    }

    /// Acks what is done with, unbinds, closes the connection and waits for all that. The places to keep.
    pub async fn close(self) -> Snapshot {
        self.stop.cancel();
        // The task neither panics nor is aborted; if it were, there would be nothing to keep.
        self.task.await.unwrap_or_default()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("closed", &self.commands.is_closed()).finish_non_exhaustive()
    }
}

/// Puts a closure into the form in which the driver keeps it.
pub(crate) fn token_provider<F, T>(provider: F) -> TokenProvider
where
    F: Fn(AppKey, Uid) -> T + Send + Sync + 'static,
    T: Future<Output = Result<String, BoxError>> + Send + 'static,
{
    Arc::new(move |app, uid| Box::pin(provider(app, uid)))
}
