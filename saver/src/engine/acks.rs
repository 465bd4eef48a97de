//! Takes what devices have out of their inboxes.

use wire::id::{Cursor, Position};

use super::Engine;
use crate::{
    archive::Archive,
    error::Refused,
    inbox::{InboxError, InboxStore},
    model::InboxKey,
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
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Takes acks. They hold at once for readers, and are durable a few milliseconds later: an ack that is lost with
    /// the process only means that a device is offered again what it has.
    ///
    /// # Errors
    /// When the archive is so far behind that no more acks may wait for it; all of them may be sent again.
    pub async fn ack(&self, items: Vec<AckItem>) -> Result<(), Refused> {
        if !self.core.backlog.has_room() {
            return Err(Refused::Busy);
        }
        let now = self.now_ms();
        let mut cursors = Vec::new();
        let mut absent = Vec::new();
        for AckItem { key, inbox, cursor } in items {
            if let Some(position) = inbox {
                match self.core.inboxes.ack(&key, position, now).await {
                    // At once: what was taken out must not be forgotten if the caller goes away.
                    Ok(done) => self.core.backlog.push(done, Vec::new()),
                    Err(InboxError::Absent) => absent.push((key.clone(), position)),
                    Err(e) => return Err(e.into()),
                }
            }
            cursors.extend(cursor.map(|cursor| (key, cursor)));
        }
        self.core.backlog.push(Vec::new(), cursors);
        if absent.is_empty() {
            return Ok(());
        }
        let keys: Vec<InboxKey> = absent.iter().map(|(key, _)| key.clone()).collect();
        self.core.ensure(&keys).await?;
        for (key, position) in absent {
            let done = self.core.inboxes.ack(&key, position, now).await?;
            self.core.backlog.push(done, Vec::new());
        }
        Ok(())
    }
}
