//! Idempotency keys.
//!
//! Over a store of this process the archive ties them. A shared store ties those of class `fast` that are certainly new,
//! and they land with its journal: so they need no archive. All others are the archive's to tell, and the store notes
//! that they are, before the archive is asked and again before anybody hears its answer; a key of which a life of the store
//! knows nothing was so never given to anybody.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{
    Core, Durability, Engine,
    journal::{Journal, store_is_away},
    writes::{Write, Written},
};
use crate::{
    archive::{Archive, ArchiveError, Reservation, Reserved},
    error::Refused,
    inbox::{InboxStore, Journaled, Tied},
};

/// What a shared store does for idempotency keys.
pub(super) trait Words: Send + Sync {
    fn tie(&self, wanted: Reservation, certain: bool) -> BoxFuture<'_, Result<Tied, Refused>>;
    fn tied(&self, wanted: Reservation, so: bool) -> BoxFuture<'_, Result<(), Refused>>;
    /// The archive was told what the store was not.
    fn lacks(&self);
}

/// The words of a journaled store.
pub(super) struct StoredWords<I, A>(pub(super) Arc<Core<I, A>>);

impl<I: Journaled, A: Archive> Words for StoredWords<I, A> {
    fn tie(&self, wanted: Reservation, certain: bool) -> BoxFuture<'_, Result<Tied, Refused>> {
        Box::pin(async move { Ok(self.0.inboxes.tie(&wanted, certain, self.0.now_ms()).await?) })
    }

    fn tied(&self, wanted: Reservation, so: bool) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(async move { Ok(self.0.inboxes.tied(&wanted, so, self.0.now_ms()).await?) })
    }

    fn lacks(&self) {
        self.0.inboxes.lacks(self.0.inboxes.epoch());
    }
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Ties an idempotency key to a message id; as durable before the answer as a message of the same class.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn reserve(
        &self,
        reservation: Reservation,
        durability: Option<Durability>,
    ) -> Result<Reserved, Refused> {
        let Some(journal) = &self.journal else {
            return match self.core.shard.owns_word(reservation.app, &reservation.word) {
                true => self.tie(Write::Reserve(reservation)).await,
                false => Err(Refused::NotOwner),
            };
        };
        let safe = durability.unwrap_or(self.core.limits().durability) == Durability::Safe;
        match journal.words.tie(reservation.clone(), !safe).await {
            Ok(Tied::New) => Ok(Reserved { id: reservation.id, repeated: false, mismatch: false }),
            Ok(Tied::Known(known)) => {
                let mismatch = known.fingerprint != reservation.fingerprint;
                let answer = Reserved { id: known.id, repeated: true, mismatch };
                if safe {
                    // It may have been tied as of class `fast`, and not have landed.
                    self.tie_in_archive(journal, Write::Reserve(known)).await?;
                }
                Ok(answer)
            }
            Ok(Tied::Ask) => {
                let tied = self.tie_in_archive(journal, Write::Reserve(reservation.clone())).await?;
                journal.words.tied(reservation, !tied.repeated).await?;
                Ok(tied)
            }
            // What is to be safe goes on in the archive alone, and begins a life of the store that knows of it.
            Err(refused) if safe && store_is_away(&refused) => {
                let tied = self.tie_in_archive(journal, Write::ReserveUnseen(reservation)).await?;
                journal.words.lacks();
                Ok(tied)
            }
            Err(refused) => Err(refused),
        }
    }

    async fn tie_in_archive(&self, journal: &Journal<A>, write: Write) -> Result<Reserved, Refused> {
        if journal.archive_is_away() {
            // Nobody is made to wait for what is known to fail.
            return Err(ArchiveError::Io("it has failed just now".to_owned()).into());
        }
        self.tie(write).await
    }

    async fn tie(&self, write: Write) -> Result<Reserved, Refused> {
        match self.write(write).await? {
            Written::Reserved(reserved) => Ok(reserved),
            _ => Err(Refused::Ending),
        }
    }
}
