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
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// What has become of a message.
    ///
    /// # Errors
    /// When the archive cannot be read, or not told what has just happened.
    pub async fn ledger(&self, app: AppId, id: MessageId) -> Result<Ledger, Refused> {
        let (deliveries, multicast) = self.own_deliveries(app, id).await?;
        let now = self.now_ms();
        let mut ledger = Ledger { multicast, ..Ledger::default() };
        for delivery in &deliveries {
            ledger.found = true;
            ledger.accepted_ms = delivery.accepted_ms;
            ledger.expires_ms = delivery.expires_ms;
            ledger.targets += 1;
            *match delivery.state {
                // Nobody will get it, though the walk for what is over has not come by yet.
                State::Stored if delivery.expires_ms <= now => &mut ledger.expired,
                State::Stored => &mut ledger.stored,
                State::Acked => &mut ledger.acked,
                State::Expired => &mut ledger.expired,
                State::Recalled => &mut ledger.recalled,
                State::InboxFull | State::MaxLoads | State::Replaced => {
                    ledger.dropped.entry(delivery.state.drop_reason().unwrap_or_default()).or_default()
                }
            } += 1;
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

    /// Takes a message out of the inboxes of this saver.
    ///
    /// # Errors
    /// When the archive fails; a repeat goes on where this ended.
    pub async fn recall(&self, app: AppId, id: MessageId) -> Result<RecallOutcome, Refused> {
        let (deliveries, _) = self.own_deliveries(app, id).await?;
        let mut outcome = RecallOutcome::default();
        for delivery in deliveries {
            match delivery.state {
                State::Acked => outcome.delivered.push(delivery.uid),
                State::Stored => {
                    if !self.core.backlog.has_room() {
                        self.flush().await?;
                    }
                    let key = InboxKey::new(app, delivery.uid.clone());
                    let taken = match self.core.inboxes.recall(&key, id, self.now_ms()).await {
                        Err(InboxError::Absent) => {
                            self.core.ensure(std::slice::from_ref(&key)).await?;
                            self.core.inboxes.recall(&key, id, self.now_ms()).await?
                        }
                        other => other?,
                    };
                    if let Some(finished) = taken {
                        self.core.left(vec![finished]);
                        outcome.recalled.push(delivery.uid);
                    }
                }
                _ => {}
            }
        }
        if !outcome.recalled.is_empty() {
            self.flush().await?;
        }
        Ok(outcome)
    }

    /// The deliveries whose inboxes are here, as they stand after all that has happened so far.
    async fn own_deliveries(&self, app: AppId, id: MessageId) -> Result<(Vec<Recorded>, bool), Refused> {
        self.flush().await?;
        let (mut deliveries, multicast) = self.core.archive.deliveries_of(app, id).await?;
        deliveries.retain(|d| self.core.shard.owns_user(d.app, &d.uid));
        Ok((deliveries, multicast))
    }
}
