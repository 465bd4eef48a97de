//! Takes what devices have out of their inboxes.

use wire::id::{Cursor, Position};

use super::{Core, Engine};
use crate::{
    archive::{Archive, ArchiveError, Credit, Passed},
    error::Refused,
    inbox::{InboxError, InboxStore},
    model::{Finished, InboxKey},
};

/// What a device says it has.
#[derive(Clone, Debug)]
pub struct AckItem {
    /// The user.
    pub key: InboxKey,
    /// Everything in the inbox up to here.
    pub inbox: Option<Position>,
    /// All broadcasts up to here.
    pub cursor: Option<Cursor>,
    /// What became of those that were meant for the user; they count if the cursor that is kept was before them.
    pub credits: Vec<Credit>,
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Takes acks. They hold at once for readers, and are durable a few milliseconds later: an ack that is lost with
    /// the process only means that a device is offered again what it has. Those with credits are durable when this answers.
    ///
    /// # Errors
    /// When the archive is so far behind that no more acks may wait for it, or did not take credits; all of them may be
    /// sent again.
    pub async fn ack(&self, items: Vec<AckItem>) -> Result<(), Refused> {
        if !self.core.backlog.has_room() {
            return Err(Refused::Busy);
        }
        let mut cursors = Vec::new();
        let mut positions = Vec::with_capacity(items.len());
        let mut passed = Vec::new();
        for AckItem { key, inbox, cursor, credits } in items {
            match cursor {
                Some(cursor) if !credits.is_empty() => {
                    passed.push(Passed { key: key.clone(), cursor, credits });
                }
                Some(cursor) => cursors.push((key.clone(), cursor)),
                None => {}
            }
            positions.extend(inbox.map(|position| (key, position)));
        }
        self.core.backlog.push(Vec::new(), cursors);
        // Nobody is made to wait for what is known to fail; what is not taken stays with whoever sent it.
        let away = !passed.is_empty() && !self.archive_works();
        let receipt = self.core.backlog.pass(if away { Vec::new() } else { passed });
        self.leave(positions).await?;
        if away {
            return Err(ArchiveError::Io("it has failed just now".to_owned()).into());
        }
        receipt.written().await
    }

    /// Takes out of the inboxes what devices have.
    async fn leave(&self, positions: Vec<(InboxKey, Position)>) -> Result<(), Refused> {
        let mut absent = self.core.ack(&positions).await?;
        if absent.is_empty() {
            return Ok(());
        }
        let keys: Vec<InboxKey> = absent.iter().map(|(key, _)| key.clone()).collect();
        match self.core.ensure(&keys).await {
            // What a shared store has of these inboxes is taken out; the rest is when their devices come with their
            // places again.
            Err(Refused::Archive(_)) if self.core.shared() => return Ok(()),
            other => other?,
        }
        absent = self.core.ack(&absent).await?;
        if absent.is_empty() { Ok(()) } else { Err(InboxError::Absent.into()) }
    }
}

impl<I: InboxStore, A: Archive> Core<I, A> {
    /// Takes acks; answers those whose inboxes are not in the store.
    async fn ack(&self, items: &[(InboxKey, Position)]) -> Result<Vec<(InboxKey, Position)>, Refused> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut absent = Vec::new();
        for (item, result) in items.iter().zip(self.inboxes.ack(items, self.now_ms()).await?) {
            match result {
                // At once: what was taken out must not be forgotten if the caller goes away.
                Ok(done) => self.left(done),
                Err(InboxError::Absent) => absent.push(item.clone()),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(absent)
    }

    /// Notes what has left an inbox, for the archive. A store with a journal has noted it already.
    pub(super) fn left(&self, finished: Vec<Finished>) {
        if self.inboxes.through().is_some() {
            self.backlog.push(finished, Vec::new());
        }
    }
}
