//! What the app is done with, on its way to the driver.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use wire::id::{BindingId, Cursor, Position};

/// How far the app is with one binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Confirmation {
    pub(super) binding: BindingId,
    pub(super) inbox: Option<Position>,
    pub(super) broadcasts: Option<Cursor>,
}

/// The latest confirmation of each binding. Not a queue: confirmations are cumulative, so a later one takes
/// the place of an earlier, and the size is bounded by the number of bindings.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    latest: Mutex<Vec<Confirmation>>,
    changed: Notify,
}

impl Confirmations {
    pub(super) fn put(&self, news: Confirmation) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match latest.iter_mut().find(|known| known.binding == news.binding) {
            Some(known) => {
                known.inbox = news.inbox.or(known.inbox);
                known.broadcasts = news.broadcasts.or(known.broadcasts);
            }
            None => latest.push(news),
        }
        drop(latest);
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Confirmation> {
        std::mem::take(&mut *self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends when something was put after the last end.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
