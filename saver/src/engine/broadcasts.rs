//! Broadcast logs.

use wire::id::{AppId, Bseq, Cursor, MessageId};

use super::{
    Engine,
    writes::{Write, Written},
};
use crate::{
    archive::{Archive, BroadcastPage, NewBroadcast, Numbered},
    error::Refused,
    inbox::InboxStore,
};

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Appends to an app's log; answers when it is durable.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn append_broadcast(&self, broadcast: NewBroadcast) -> Result<Numbered, Refused> {
        if !self.core.shared() && !self.core.shard.owns_app(broadcast.app) {
            return Err(Refused::NotOwner);
        }
        let charge = self.core.charge(1, broadcast.payload.len()).ok_or(Refused::Busy)?;
        let written = self.write(Write::Broadcast(broadcast)).await;
        drop(charge);
        match written? {
            Written::Numbered(numbered) => Ok(numbered),
            _ => Err(Refused::Ending),
        }
    }

    /// Reads a log after a number. Whoever is asked reads it; only the owner has it at hand.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn load_broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<BroadcastPage, Refused> {
        self.core.metrics.log_pages.inc();
        let max_bytes = max_bytes.min(self.core.limits().load_bytes);
        let now = self.now_ms();
        let owner = !self.core.shared() && self.core.shard.owns_app(app);
        if owner && let Some(page) = self.core.logs.read(app, after, max_messages, max_bytes, now) {
            return Ok(page);
        }
        let page = self.core.archive.broadcasts(app, after, max_messages, max_bytes, now).await?;
        if owner {
            self.core.logs.fill(app, after, &page);
        }
        Ok(page)
    }

    /// Takes a broadcast back; false if it was not there any more.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub async fn recall_broadcast(&self, app: AppId, id: MessageId) -> Result<bool, Refused> {
        if !self.core.shared() && !self.core.shard.owns_app(app) {
            return Err(Refused::NotOwner);
        }
        match self.write(Write::RecallBroadcast(app, id)).await? {
            Written::Recalled(recalled) => Ok(recalled),
            _ => Err(Refused::Ending),
        }
    }

    /// Newest numbers of logs; an app without a log is left out.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn heads(&self, apps: &[AppId]) -> Result<Vec<(AppId, Cursor)>, Refused> {
        let mut heads = Vec::with_capacity(apps.len());
        let mut unknown = Vec::new();
        for app in apps {
            match self.core.logs.head(*app).filter(|_| !self.core.shared() && self.core.shard.owns_app(*app))
            {
                Some(head) => heads.push((*app, head)),
                None => unknown.push(*app),
            }
        }
        if !unknown.is_empty() {
            heads.extend(self.core.archive.heads(&unknown).await?);
        }
        Ok(heads)
    }
}
