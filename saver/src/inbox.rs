//! The seam of the inbox stores: the unacked messages of each user, numbered, close at hand.
//!
//! A store may forget any inbox at any time and as a whole ([`InboxStore::absent`] then says so): the archive has
//! everything that was answered, and [`InboxStore::rebuild`] brings the inbox back. What it may never do is use a
//! number twice within an epoch.
//!
//! The in-process store is [`memory::MemoryInboxes`]. A store in Redis keeps each inbox under one hash tag, `stage` is
//! its append script, and a lost epoch key makes every inbox absent.

use std::future::Future;

use wire::id::{Epoch, MessageId, Position};

use crate::model::{Finished, InboxKey, Loaded, Read, Staged, Staging, Surviving};

#[cfg(test)]
pub(crate) mod conformance;
pub mod memory;

/// Why an inbox store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The inbox is not in the store: rebuild it and ask again.
    #[error("the inbox is not loaded")]
    Absent,
    /// No room for one more inbox or message, and nothing that could be let go.
    #[error("the inbox store is full")]
    Full,
    /// The store cannot be reached.
    #[error("the inbox store is not available: {0}")]
    Unavailable(String),
}

/// An inbox that the store does not have, at one moment. A rebuild presents it, so that one that read the archive
/// before somebody else wrote is turned away.
#[derive(Clone, Debug)]
pub struct Absent {
    /// The inbox.
    pub key: InboxKey,
    /// Says when this was; opaque to all but the store.
    pub version: u64,
}

/// Work of a bounded upkeep step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Inboxes looked at.
    pub visited: usize,
    /// Inboxes let go.
    pub evicted: usize,
}

/// What waits in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Place of the newest message.
    pub reaches: Position,
    /// The newest message.
    pub id: MessageId,
}

/// Result of an inbox store.
pub type InboxResult<T> = Result<T, InboxError>;

/// The unacked messages of each user.
pub trait InboxStore: Send + Sync + 'static {
    /// The present numbering.
    fn epoch(&self) -> Epoch;

    /// Forgets all inboxes and numbers in a new epoch, greater than any before.
    fn restart(&self, epoch: Epoch) -> impl Future<Output = InboxResult<()>> + Send;

    /// Those of these inboxes that must be rebuilt before anything else can be done with them.
    fn absent(&self, keys: &[InboxKey]) -> impl Future<Output = InboxResult<Vec<Absent>>> + Send;

    /// Puts a rebuilt inbox in place. It does nothing when the inbox has come back meanwhile, or when the store let
    /// go of inboxes since `absent` was made and so cannot know: the caller asks `absent` again.
    fn rebuild(
        &self,
        absent: &Absent,
        surviving: Vec<Surviving>,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<()>> + Send;

    /// Numbers deliveries in their order; nobody sees them before [`InboxStore::publish`]. One result for each.
    fn stage(
        &self,
        items: &[Staging],
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Vec<InboxResult<Staged>>>> + Send;

    /// Makes staged deliveries visible, and drops what they pushed out: the archive has it all.
    fn publish(&self, staged: &[Staged], now_ms: u64) -> impl Future<Output = InboxResult<()>> + Send;

    /// Takes staged deliveries back: the archive does not have them. Their numbers stay unused.
    fn withdraw(&self, staged: &[Staged]) -> impl Future<Output = InboxResult<()>> + Send;

    /// Reads an inbox. What has expired, what was acknowledged, and what was loaded more than `max_loads` times
    /// leaves it.
    fn load(
        &self,
        key: &InboxKey,
        read: Read,
        max_loads: u32,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Loaded>> + Send;

    /// Takes out what a position covers.
    fn ack(
        &self,
        key: &InboxKey,
        position: Position,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Vec<Finished>>> + Send;

    /// Takes one message out, if it is there.
    fn recall(
        &self,
        key: &InboxKey,
        id: MessageId,
    ) -> impl Future<Output = InboxResult<Option<Finished>>> + Send;

    /// Messages that wait.
    fn depth(&self, key: &InboxKey, now_ms: u64) -> impl Future<Output = InboxResult<u64>> + Send;

    /// The archive has these now. Until then their inboxes stay: a rebuild would bring them back.
    fn settle(&self, finished: &[Finished]) -> impl Future<Output = InboxResult<()>> + Send;

    /// Inboxes on watch that have held a message for `patience_ms` or longer; at most `max`. Each is named once;
    /// [`InboxStore::watch`] puts it back on watch. A publish and a load put an inbox on watch.
    fn overdue(
        &self,
        now_ms: u64,
        patience_ms: u64,
        max: usize,
    ) -> impl Future<Output = InboxResult<Vec<InboxKey>>> + Send;

    /// What waits in an inbox; `None` if nothing does.
    fn waiting(
        &self,
        key: &InboxKey,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Option<Waiting>>> + Send;

    /// Watches an inbox again.
    fn watch(&self, key: &InboxKey, now_ms: u64) -> impl Future<Output = InboxResult<()>> + Send;

    /// A bounded step of letting go of what is idle.
    fn upkeep(&self, now_ms: u64) -> impl Future<Output = InboxResult<Upkeep>> + Send;
}
