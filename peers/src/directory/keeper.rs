//! The task that keeps the apps up to date.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto::internal::{App, AppsResponse};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Apps, Shared};
use crate::{PeerError, Savers};

/// How old what a node knows of the apps may be.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Distance of two fetches, however many ask: ten a second and node at most.
const FETCH_GAP: Duration = Duration::from_millis(100);

/// How the last fetch that ended did.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    pub(super) number: u64,
    pub(super) error: Option<PeerError>,
    /// At least one has succeeded.
    pub(super) loaded: bool,
    /// There will be no more.
    pub(super) ended: bool,
}

pub(super) struct Keeper {
    savers: Savers,
    shared: Arc<Shared>,
    /// An outage is logged when it begins and when it ends, not at every poll.
    failing: bool,
}

impl Keeper {
    pub(super) fn new(savers: Savers, shared: Arc<Shared>) -> Self {
        Self { savers, shared, failing: false }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let polls = async {
            let mut tick = interval(POLL_INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    () = self.shared.wanted.notified() => {}
                }
                let begin = Instant::now();
                let number = self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
                let result = self.fetch().await;
                self.report(number, result);
                sleep_until(begin + FETCH_GAP).await;
            }
        };
        cancel.run_until_cancelled(polls).await;
        self.shared.fetched.send_modify(|fetched| fetched.ended = true);
    }

    async fn fetch(&self) -> Result<(), PeerError> {
        let known = self.shared.apps.load_full();
        let changes = self.savers.apps(known.revision).await?;
        if changes.revision < known.revision {
            // Another archive than before: nothing that was known counts.
            let all = self.savers.apps(0).await?;
            self.shared.apps.store(Arc::new(Apps::default().with(all)));
        } else if !changes.apps.is_empty() || changes.revision > known.revision {
            self.shared.apps.store(Arc::new(Apps::clone(&known).with(changes)));
        }
        Ok(())
    }

    fn report(&mut self, number: u64, result: Result<(), PeerError>) {
        let error = result.err();
        match &error {
            Some(error) if !self.failing => {
                tracing::warn!(%error, "the app directory cannot be read; the last one stays");
            }
            None if self.failing => tracing::info!("the app directory can be read again"),
            _ => {}
        }
        self.failing = error.is_some();
        self.shared.fetched.send_modify(|fetched| {
            fetched.number = number;
            fetched.loaded |= error.is_none();
            fetched.error = error;
        });
    }
}

impl Apps {
    fn with(mut self, changes: AppsResponse) -> Self {
        for app in changes.apps {
            self.put(Arc::new(app));
        }
        self.revision = changes.revision;
        self
    }

    fn put(&mut self, app: Arc<App>) {
        // An app whose key has changed is no longer found by the old one.
        if let Some(before) = self.by_id.insert(app.id, Arc::clone(&app))
            && self.by_key.get(&before.key).is_some_and(|found| found.id == app.id)
        {
            self.by_key.remove(&before.key);
        }
        self.by_key.insert(app.key.clone(), app);
    }
}
