//! The seam of the inbox stores: the unacked messages of each user, numbered, close at hand.
//!
//! A store may forget any inbox at any time and as a whole ([`InboxStore::absent`] then says so): the archive has
//! everything that was answered, and [`InboxStore::rebuild`] brings the inbox back. What it may never do is use a
//! number twice within an epoch.
//!
//! Readers see one trait, [`InboxStore`]. Writers see one of two. A store of this process alone is written *through*
//! ([`WriteThrough`]): a delivery is numbered, then committed, then shown, so what leaves an inbox is told to the caller,
//! who tells the archive. A store that many savers share is *journaled* ([`Journaled`]): it numbers, keeps and shows a
//! delivery at once, and its journal holds all that the archive is still to hear of.
//!
//! The in-process store is [`memory::MemoryInboxes`], the shared one is `redis::RedisInboxes`.

use std::{convert::Infallible, future::Future};

use bytes::Bytes;

use wire::id::{Epoch, MessageId, Position};

use crate::{
    archive::{NewDelivery, Reservation, SharedLife},
    model::{Finished, InboxKey, Loaded, Read, Row, Staged, Staging, State, Surviving},
};

#[cfg(test)]
pub(crate) mod conformance;
pub mod memory;
#[cfg(feature = "cluster-stores")]
pub mod redis;

/// Why an inbox store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The inbox is not in the store: rebuild it and ask again.
    #[error("the inbox is not loaded")]
    Absent,
    /// No room for one more inbox or message, and nothing that could be let go.
    #[error("the inbox store is full")]
    Full,
    /// What the archive has not heard of yet is at its bound.
    #[error("the archive is too far behind: its journal is full")]
    Behind,
    /// A new epoch begins: in a moment it is done.
    #[error("the inbox store begins a new epoch")]
    Changing,
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

/// The unacked messages of each user, as readers see them.
pub trait InboxStore: Send + Sync + 'static {
    /// How it is written, if it is written through; [`Infallible`] if it has a journal.
    type Through: WriteThrough;

    /// Inboxes of one call that are read at once: as many as make a round trip worth its while.
    const READS_AT_ONCE: usize;

    /// How it is written. Without it, what leaves an inbox is in the store's own journal, and not told.
    fn through(&self) -> Option<&Self::Through>;

    /// The present numbering.
    fn epoch(&self) -> Epoch;

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

    /// Reads an inbox. What has expired, what was acknowledged, and what was loaded more than `max_loads` times
    /// leaves it.
    fn load(
        &self,
        key: &InboxKey,
        read: Read,
        max_loads: u32,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Loaded>> + Send;

    /// Takes out what each position covers. One result for each.
    fn ack(
        &self,
        items: &[(InboxKey, Position)],
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Vec<InboxResult<Vec<Finished>>>>> + Send;

    /// Takes one message out, if it is there. It is told by a store with a journal, too.
    fn recall(
        &self,
        key: &InboxKey,
        id: MessageId,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Option<Finished>>> + Send;

    /// Messages that wait.
    fn depth(&self, key: &InboxKey, now_ms: u64) -> impl Future<Output = InboxResult<u64>> + Send;

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

/// Writing to a store of this process: number, commit to the archive, show.
pub trait WriteThrough: Send + Sync + 'static {
    /// Forgets all inboxes and numbers in a new epoch, greater than any before.
    fn restart(&self, epoch: Epoch) -> impl Future<Output = InboxResult<()>> + Send;

    /// Numbers deliveries in their order; nobody sees them before [`WriteThrough::publish`]. One result for each.
    fn stage(
        &self,
        items: &[Staging],
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Vec<InboxResult<Staged>>>> + Send;

    /// Makes staged deliveries visible, and drops what they pushed out: the archive has it all.
    fn publish(&self, staged: &[Staged], now_ms: u64) -> impl Future<Output = InboxResult<()>> + Send;

    /// Takes staged deliveries back: the archive does not have them. Their numbers stay unused.
    fn withdraw(&self, staged: &[Staged]) -> impl Future<Output = InboxResult<()>> + Send;

    /// The archive has these now. Until then their inboxes stay: a rebuild would bring them back.
    fn settle(&self, finished: &[Finished]) -> impl Future<Output = InboxResult<()>> + Send;
}

/// No store is written through this.
impl WriteThrough for Infallible {
    async fn restart(&self, _: Epoch) -> InboxResult<()> {
        match *self {}
    }
    async fn stage(&self, _: &[Staging], _: u64) -> InboxResult<Vec<InboxResult<Staged>>> {
        match *self {}
    }
    async fn publish(&self, _: &[Staged], _: u64) -> InboxResult<()> {
        match *self {}
    }
    async fn withdraw(&self, _: &[Staged]) -> InboxResult<()> {
        match *self {}
    }
    async fn settle(&self, _: &[Finished]) -> InboxResult<()> {
        match *self {}
    }
}

/// A delivery for a journaled store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The inbox, its cap, and what to deliver.
    pub staging: Staging,
    /// It goes to others too, under the same id.
    pub multicast: bool,
    /// The archive was asked and does not have it.
    pub checked: bool,
}

/// What became of a delivery in a journaled store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was stored.
    New(Position),
    /// It was there before; seq 0 if it has left the inbox.
    Repeat(Position),
    /// Its id is older than what the store remembers: only the archive knows whether it was there before.
    Ask,
}

/// A line of a journal.
#[derive(Clone, Debug)]
pub enum Record {
    /// A delivery, and its payload if it is the first of this message in the same part.
    Appended(NewDelivery, Option<Bytes>),
    /// A delivery has left its inbox.
    Finished(Row, State),
    /// An idempotency key was tied.
    Reserved(Reservation),
}

/// What a journaled store knows of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tied {
    /// It was new, and is tied now.
    New,
    /// It was tied before.
    Known(Reservation),
    /// Only the archive can tell. Until it is told so again ([`Journaled::tied`]) the store ties it to nothing.
    Ask,
}

/// The oldest part of a partition's journal.
#[derive(Clone, Debug, Default)]
pub struct JournalPart {
    /// The partition.
    pub partition: u32,
    /// Its lines, in their order.
    pub records: Vec<Record>,
    /// There is more.
    pub more: bool,
    /// What the store wants back when it has landed; opaque to all others.
    pub mark: Mark,
}

/// How far a part of a journal reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The epoch in which it was read.
    pub epoch: Epoch,
    /// The last entry of the part.
    pub entry: u64,
    /// Lines and bytes ever written, up to and with that entry.
    pub written: (u64, u64),
}

/// What a journal holds that the archive has not heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Lines.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the oldest was written, ms since 1970.
    pub since_ms: Option<u64>,
}

/// Writing to a store that savers share, and that answers before the archive has the message.
pub trait Journaled: InboxStore {
    /// Numbers, stores and shows deliveries, in their order for each inbox. One result for each. After an error it is
    /// not known whether they were stored; a repeat finds out.
    fn append(&self, items: &[Entry], now_ms: u64) -> impl Future<Output = Vec<InboxResult<Placed>>> + Send;

    /// Ties an idempotency key, if it is certain that nobody has it; with `certain` false it is not tied, but then nobody
    /// else ties it without asking the archive either. After an error it is not known whether it was tied; a repeat finds out.
    fn tie(
        &self,
        wanted: &Reservation,
        certain: bool,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<Tied>> + Send;

    /// The archive has tied a key to what is `wanted`, or to something else: nobody ties it here without asking.
    fn tied(
        &self,
        wanted: &Reservation,
        so: bool,
        now_ms: u64,
    ) -> impl Future<Output = InboxResult<()>> + Send;

    /// What numbers must be greater than that are given elsewhere while the store is away: greater than all that it gave
    /// in its present life and before, and less than all that it will give in the next.
    fn away_number(&self, life: &SharedLife, now_ms: u64) -> u64;

    /// Something is in the archive that the store's lives up to this one lack, and that comes before all that is appended
    /// from now on: none of them is used any more.
    fn lacks(&self, life: Epoch);

    /// Partitions of the store; 0 before its first life. Each is landed and swept by one saver, and none suffers if two do it.
    fn partitions(&self) -> u32;

    /// Where an inbox is kept.
    fn partition_of(&self, key: &InboxKey) -> u32;

    /// Reads the oldest of what these partitions' journals hold, of each a bounded part.
    fn journal(&self, partitions: &[u32]) -> impl Future<Output = InboxResult<Vec<JournalPart>>> + Send;

    /// The archive has these parts: the journals may forget them. A mark of an epoch that is over does nothing.
    fn landed(&self, marks: &[(u32, Mark)]) -> impl Future<Output = InboxResult<()>> + Send;

    /// What these partitions' journals hold.
    fn lag(&self, partitions: &[u32]) -> impl Future<Output = InboxResult<Lag>> + Send;
}
