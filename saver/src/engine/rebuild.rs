//! Brings inboxes into the store that are only in the archive.

use futures::future::join_all;

use super::Core;
use crate::{
    archive::Archive,
    error::Refused,
    inbox::{InboxError, InboxStore},
    model::InboxKey,
};

/// Inboxes rebuilt with one query: each may hold as many rows as the cap allows.
const REBUILD_STEP: usize = 64;
/// A rebuild that another task's eviction has overtaken is tried again so often.
const REBUILD_TRIES: usize = 4;

impl<I: InboxStore, A: Archive> Core<I, A> {
    /// Makes sure that the inboxes are in the store, and rebuilds those that are not. One that finds no room stays
    /// absent; whoever uses it is refused.
    pub(super) async fn ensure(&self, keys: &[InboxKey]) -> Result<(), Refused> {
        for _ in 0..REBUILD_TRIES {
            let absent = self.inboxes.absent(keys).await?;
            if absent.is_empty() {
                return Ok(());
            }
            let now = self.now_ms();
            let mut full = false;
            for part in absent.chunks(REBUILD_STEP) {
                let wanted: Vec<InboxKey> = part.iter().map(|a| a.key.clone()).collect();
                let surviving = self.archive.surviving(&wanted).await?;
                let rebuilt =
                    part.iter().zip(surviving).map(|(absent, rows)| self.inboxes.rebuild(absent, rows, now));
                for result in join_all(rebuilt).await {
                    match result {
                        Ok(()) => self.metrics.inboxes_rebuilt.inc(),
                        Err(InboxError::Full) => {
                            full = true;
                            self.metrics.inboxes_refused.inc()
                        }
                        Err(e) => return Err(e.into()),
                    };
                }
            }
            if full {
                return Ok(());
            }
        }
        Ok(())
    }
}
