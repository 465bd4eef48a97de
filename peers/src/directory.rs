//! The apps, kept at hand.

mod keeper;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use cluster::Role;
use proto::internal::App;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{PeerError, Savers};
use keeper::{Fetched, Keeper};

/// Callers that may wait at a time for an app that is not known; the rest are refused. Devices that bind with random
/// app names wait here, so the number bounds what they can hold.
const WAITING_MISSES: usize = 1024;
/// How long such a caller waits at most.
const MISS_PATIENCE: Duration = Duration::from_secs(5);

/// All apps of the cluster in memory, not older than the poll interval (2 s). Clones share them.
///
/// An app that is not found is asked for at once, so one that has just been made is known everywhere. All who miss at a
/// time share one fetch, and fetches keep a distance, so that asking for apps that do not exist costs the savers nothing
/// worth mentioning.
#[derive(Clone)]
pub struct AppDirectory {
    shared: Arc<Shared>,
}

struct Shared {
    apps: ArcSwap<Apps>,
    /// Fetches begun.
    begun: AtomicU64,
    wanted: Notify,
    fetched: watch::Sender<Fetched>,
    waiting: Semaphore,
}

#[derive(Clone, Default)]
struct Apps {
    by_id: HashMap<u32, Arc<App>>,
    by_key: HashMap<String, Arc<App>>,
    revision: u64,
}

impl AppDirectory {
    /// Begins to fetch and to poll, until `cancel`.
    #[must_use]
    pub fn start(savers: Savers, cancel: CancellationToken) -> (Self, JoinHandle<()>) {
        let shared = Arc::new(Shared {
            apps: ArcSwap::default(),
            begun: AtomicU64::new(0),
            wanted: Notify::new(),
            fetched: watch::Sender::new(Fetched::default()),
            waiting: Semaphore::new(WAITING_MISSES),
        });
        let task = tokio::spawn(Keeper::new(savers, Arc::clone(&shared)).run(cancel));
        (Self { shared }, task)
    }

    /// Waits until the apps have been read for the first time. Before, every app is unknown.
    pub async fn loaded(&self) {
        let mut fetched = self.shared.fetched.subscribe();
        // The sender lives in `self`, so it does not close.
        let _ = fetched.wait_for(|fetched| fetched.loaded).await;
    }

    /// An app by its number, if it is at hand.
    #[must_use]
    pub fn get(&self, id: impl Into<u32>) -> Option<Arc<App>> {
        self.shared.apps.load().by_id.get(&id.into()).cloned()
    }

    /// An app by its key, if it is at hand.
    #[must_use]
    pub fn get_by_key(&self, key: &str) -> Option<Arc<App>> {
        self.shared.apps.load().by_key.get(key).cloned()
    }

    /// All apps at hand, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<App>> {
        self.shared.apps.load().by_id.values().cloned().collect()
    }

    /// An app by its number, asked for if it is not at hand; `None` if there is no such app.
    ///
    /// # Errors
    /// When the savers do not answer, or too many ask for apps that are not known.
    pub async fn find(&self, id: impl Into<u32>) -> Result<Option<Arc<App>>, PeerError> {
        let id = id.into();
        if let Some(app) = self.get(id) {
            return Ok(Some(app));
        }
        self.miss().await?;
        Ok(self.get(id))
    }

    /// An app by its key, asked for if it is not at hand; `None` if there is no such app.
    ///
    /// # Errors
    /// When the savers do not answer, or too many ask for apps that are not known.
    pub async fn find_by_key(&self, key: &str) -> Result<Option<Arc<App>>, PeerError> {
        if let Some(app) = self.get_by_key(key) {
            return Ok(Some(app));
        }
        self.miss().await?;
        Ok(self.get_by_key(key))
    }

    /// Waits for a fetch that begins from now on.
    ///
    /// # Errors
    /// When the savers do not answer, or too many wait for the same.
    pub async fn refresh(&self) -> Result<(), PeerError> {
        self.miss().await
    }

    async fn miss(&self) -> Result<(), PeerError> {
        let shared = &self.shared;
        let Ok(_place) = shared.waiting.try_acquire() else { return Err(PeerError::Full(Role::Saver)) };
        let mut fetched = shared.fetched.subscribe();
        // One that has begun already may have been answered before the app was made.
        let number = shared.begun.load(Ordering::SeqCst) + 1;
        shared.wanted.notify_one();
        let wait = fetched.wait_for(|fetched| fetched.number >= number || fetched.ended);
        match timeout(MISS_PATIENCE, wait).await {
            Err(_) => Err(PeerError::deadline(Role::Saver)),
            Ok(Err(_)) => Err(PeerError::ShuttingDown),
            Ok(Ok(fetched)) if fetched.ended => Err(PeerError::ShuttingDown),
            Ok(Ok(fetched)) => fetched.error.clone().map_or(Ok(()), Err),
        }
    }
}
