//! What has become of a message, and taking one back.

use std::collections::BTreeMap;

use wire::id::{AppId, MessageId, Uid};

use super::Engine;
use crate::{
    archive::{Archive, Counts, LoggedBroadcast, Recorded},
    error::Refused,
    inbox::{InboxError, InboxStore},
    model::{InboxKey, State},
};

/// Deliveries that are read at a time: some megabytes. A list may have a million users.
const PAGE: usize = 5_000;

/// This saver's part of a message's ledger. The counts of all states are the targets: a delivery has one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Whether the message is known here.
    pub found: bool,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// It went to a list.
    pub multicast: bool,
    /// Deliveries.
    pub targets: u64,
    /// Acked by a device.
    pub acked: u64,
    /// Still in an inbox.
    pub stored: u64,
    /// Their time was over.
    pub expired: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Taken back.
    pub recalled: u64,
    /// The broadcast with this id, if there is one in a log that is numbered here.
    pub broadcast: Option<LoggedBroadcast>,
    /// What is counted of it.
    pub counts: Option<Counts>,
}

/// What a recall did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecallOutcome {
    /// Users whose inbox still held it.
    pub recalled: Vec<Uid>,
    /// Users who had acked it.
    pub delivered: Vec<Uid>,
    /// The last name that was looked at, if there may be more after it.
    pub next: Option<String>,
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// What has become of a message.
    ///
    /// # Errors
    /// When the archive cannot be read, or not told what has just happened.
    pub async fn ledger(&self, app: AppId, id: MessageId) -> Result<Ledger, Refused> {
        let now = self.now_ms();
        let mut ledger = Ledger::default();
        let mut walk = self.own_deliveries(app, id).await?;
        while let Some(page) = walk.next(self).await? {
            page.iter().for_each(|delivery| ledger.count(delivery, now));
        }
        if !ledger.found && self.core.shard.owns_app(app) {
            ledger.broadcast = self.core.archive.broadcast(app, id).await?;
            if let Some(broadcast) = &ledger.broadcast {
                ledger.found = true;
                ledger.accepted_ms = broadcast.accepted_ms;
                ledger.expires_ms = broadcast.expires_ms;
            }
            ledger.counts = self.core.archive.broadcast_counts(app, &[id]).await?.remove(0);
            ledger.found |= ledger.counts.is_some();
        }
        Ok(ledger)
    }

    /// Takes a message out of the inboxes of this saver whose names come after one, until these are `most` users or a page more.
    ///
    /// # Errors
    /// When the archive fails; a repeat goes on where this ended.
    pub async fn recall(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: String,
        most: usize,
    ) -> Result<RecallOutcome, Refused> {
        let mut outcome = RecallOutcome::default();
        let mut walk = Walk { after: Some(after_uid), ..self.own_deliveries(app, id).await? };
        while outcome.recalled.len() + outcome.delivered.len() < most
            && let Some(page) = walk.next(self).await?
        {
            for delivery in page {
                match delivery.state {
                    State::Acked => outcome.delivered.push(delivery.uid),
                    State::Stored if self.take_back(app, &delivery.uid, id).await? => {
                        outcome.recalled.push(delivery.uid);
                    }
                    _ => {}
                }
            }
        }
        outcome.next = walk.after;
        if !outcome.recalled.is_empty() {
            self.flush().await?;
        }
        Ok(outcome)
    }

    /// Takes a message out of an inbox; whether it was there.
    async fn take_back(&self, app: AppId, uid: &Uid, id: MessageId) -> Result<bool, Refused> {
        if !self.core.backlog.has_room() {
            self.flush().await?;
        }
        let key = InboxKey::new(app, uid.clone());
        let taken = match self.core.inboxes.recall(&key, id, self.now_ms()).await {
            Err(InboxError::Absent) => {
                self.core.ensure(std::slice::from_ref(&key)).await?;
                self.core.inboxes.recall(&key, id, self.now_ms()).await?
            }
            other => other?,
        };
        let there = taken.is_some();
        self.core.left(taken.into_iter().collect());
        Ok(there)
    }

    /// The deliveries whose inboxes are here, as they stand after all that has happened so far.
    async fn own_deliveries(&self, app: AppId, id: MessageId) -> Result<Walk, Refused> {
        self.flush().await?;
        Ok(Walk { app, id, after: Some(String::new()) })
    }
}

/// A walk over the deliveries of a message, in the order of their users' names.
struct Walk {
    app: AppId,
    id: MessageId,
    /// The last user that was read; `None` at the end.
    after: Option<String>,
}

impl Walk {
    /// The next of those whose inboxes are here: perhaps none, though there are more.
    async fn next<I: InboxStore, A: Archive>(
        &mut self,
        engine: &Engine<I, A>,
    ) -> Result<Option<Vec<Recorded>>, Refused> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let mut page = engine.core.archive.targets(self.app, self.id, &after, PAGE).await?;
        if page.len() == PAGE {
            self.after = page.last().map(|last| last.uid.as_str().to_owned());
        }
        page.retain(|d| engine.core.shard.owns_user(d.app, &d.uid));
        Ok(Some(page))
    }
}

impl Ledger {
    /// Counts a delivery.
    fn count(&mut self, delivery: &Recorded, now_ms: u64) {
        self.found = true;
        self.multicast |= delivery.row.is_multicast();
        self.accepted_ms = delivery.accepted_ms;
        self.expires_ms = delivery.expires_ms;
        self.targets += 1;
        *match delivery.state {
            // Nobody will get it, though the walk for what is over has not come by yet.
            State::Stored if delivery.expires_ms <= now_ms => &mut self.expired,
            State::Stored => &mut self.stored,
            State::Acked => &mut self.acked,
            State::Expired => &mut self.expired,
            State::Recalled => &mut self.recalled,
            State::InboxFull | State::MaxLoads | State::Replaced => {
                self.dropped.entry(delivery.state.drop_reason().unwrap_or_default()).or_default()
            }
        } += 1;
    }
}
