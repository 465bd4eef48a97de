//! Apps, API keys, and the walks that keep the archive small.

use proto::internal::App;
use wire::id::{MessageId, Seq};

use super::{
    Engine,
    writes::{Write, Written},
};
use crate::{
    archive::{ApiKey, AppRefused, Archive, Forget, StoredPlace},
    error::Refused,
    inbox::InboxStore,
    model::{Row, State},
};

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Apps that changed after a revision, and the revision now.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn apps(&self, after_revision: u64) -> Result<(Vec<App>, u64), Refused> {
        Ok(self.core.archive.apps(after_revision).await?)
    }

    /// Creates an app (id 0) or changes one, unless it was changed since the revision that it names.
    ///
    /// # Errors
    /// When its key is taken, its id is unknown, or the archive fails.
    pub async fn put_app(&self, app: App) -> Result<App, Refused> {
        let key = app.key.clone();
        match self.write(Write::PutApp(Box::new(app))).await? {
            Written::App(Ok(app)) => Ok(app),
            Written::App(Err(AppRefused::KeyTaken)) => {
                Err(Refused::bad("app_taken", format!("app \"{key}\" exists already")))
            }
            Written::App(Err(AppRefused::Changed)) => {
                Err(Refused::bad(peers::APP_CHANGED, format!("app \"{key}\" was changed meanwhile")))
            }
            Written::App(Err(AppRefused::Unknown)) => Err(Refused::bad("unknown_app", "no app has this id")),
            _ => Err(Refused::Ending),
        }
    }

    /// Stores an API key.
    ///
    /// # Errors
    /// When its app is unknown or the archive fails.
    pub async fn put_key(&self, key: ApiKey) -> Result<(), Refused> {
        match self.write(Write::PutKey(key)).await? {
            Written::Key(true) => Ok(()),
            Written::Key(false) => Err(Refused::bad("unknown_app", "no app has this id")),
            _ => Err(Refused::Ending),
        }
    }

    /// Looks an API key up by its hash.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn find_key(&self, hash: &[u8]) -> Result<Option<ApiKey>, Refused> {
        Ok(self.core.archive.find_key(hash).await?)
    }

    /// One step of the walk over stored deliveries: marks those that are over. Answers how many, and where to go on.
    ///
    /// # Errors
    /// When the archive fails; the same step may be tried again.
    pub async fn expire_step(
        &self,
        after: Option<StoredPlace>,
        max: usize,
    ) -> Result<(usize, Option<StoredPlace>), Refused> {
        debug_assert!(after.as_ref().is_none_or(|(_, _, seq)| *seq > Seq::ZERO));
        let (rows, next) = self.core.archive.expired(after, self.now_ms(), max).await?;
        let count = rows.len();
        if count > 0 {
            let rows = rows.into_iter().map(|row| (row, State::Expired)).collect();
            self.write(Write::Finish(rows)).await?;
            self.core.metrics.cleanup_expired.inc_by(count as u64);
        }
        Ok((count, next))
    }

    /// One step of the walk over finished deliveries to one user that were accepted before a time.
    ///
    /// # Errors
    /// When the archive fails; the same step may be tried again.
    pub async fn forget_unicast_step(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> Result<(u64, Option<Row>), Refused> {
        let (unicast, next) = self.core.archive.finished_unicast(after, before_ms, max).await?;
        Ok((self.forget(Forget { unicast, ..Forget::default() }).await?, next))
    }

    /// One step of the walk over multicasts that were accepted before a time.
    ///
    /// # Errors
    /// When the archive fails; the same step may be tried again.
    pub async fn forget_multicast_step(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> Result<(u64, Option<MessageId>), Refused> {
        let (multicast, next) = self.core.archive.old_multicasts(after, before_ms, max).await?;
        Ok((self.forget(Forget { multicast, ..Forget::default() }).await?, next))
    }

    /// Forgets a bounded number of idempotency keys and broadcasts that were over before these times.
    ///
    /// # Errors
    /// When the archive fails.
    pub async fn forget_over(&self, reservations_ms: u64, broadcasts_ms: u64) -> Result<u64, Refused> {
        let forget = Forget {
            reservations_before_ms: Some(reservations_ms),
            broadcasts_before_ms: Some(broadcasts_ms),
            ..Forget::default()
        };
        self.forget(forget).await
    }

    async fn forget(&self, forget: Forget) -> Result<u64, Refused> {
        if forget.is_empty() {
            return Ok(0);
        }
        let gone = match self.write(Write::Forget(forget)).await? {
            Written::Count(gone) => gone,
            _ => 0,
        };
        self.core.metrics.cleanup_forgotten.inc_by(gone);
        Ok(gone)
    }
}
