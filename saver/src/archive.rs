//! The seam of the archives: what is durable. Everything that the cluster has answered for is here, and all else
//! can be rebuilt from it.
//!
//! Writes come as a [`Group`], which an archive commits as one transaction with statements of many rows each, or
//! not at all. Reads see only what is committed. The embedded archive is `sqlite::SqliteArchive`; that of a cluster is
//! `mysql::MySqlArchive`.

use std::{collections::HashMap, future::Future};

use bytes::Bytes;
use proto::internal::{App, Job, ScheduledPush};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use crate::model::{InboxKey, Row, Surviving};

#[cfg(test)]
pub(crate) mod conformance;
mod credits;
mod entries;
#[cfg(test)]
pub(crate) mod flaky;
mod jobs;
#[cfg(feature = "cluster-stores")]
pub mod mysql;
mod records;
mod schedule;
mod shared;
pub mod sqlite;

pub(crate) use credits::is_before;
pub use credits::{Counts, Credit, CreditKind, Passed};
pub use jobs::{JobWrite, JobWritten, MOST_JOBS};
use records::Revised;
pub use records::{
    ApiKey, AppRefused, Body, BroadcastPage, Committed, Forget, Group, LoggedBroadcast, NewBroadcast,
    NewDelivery, Newcomer, Numbered, Recorded, Reservation, Reserved, StoredPlace, Wanted,
};
pub(crate) use schedule::pack;
pub use schedule::{NewPart, PartDue, PartHead, PartName};
pub use shared::{LIFE_CHANGED, Landing, SharedLife};

/// Why an archive did not do what was asked. Nothing of the group was stored, save for `Io`: there it is not known,
/// and a repeat with the same id finds out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The disk, or the quota, is full.
    #[error("the archive's disk is full")]
    DiskFull,
    /// Another process held the archive's lock for too long.
    #[error("the archive is locked by another process")]
    Locked,
    /// The archive's file is damaged: an operator must restore it.
    #[error("the archive is damaged: {0}")]
    Corrupt(String),
    /// Something that is there already stood in the way.
    #[error("the archive has this already: {0}")]
    Conflict(String),
    /// The disk or the connection failed.
    #[error("the archive is not available: {0}")]
    Io(String),
}

/// Result of an archive.
pub type ArchiveResult<T> = Result<T, ArchiveError>;

/// What is durable.
pub trait Archive: Send + Sync + 'static {
    /// Begins a life of an inbox store on this archive: an epoch greater than any before.
    fn begin_epoch(&self) -> impl Future<Output = ArchiveResult<Epoch>> + Send;

    /// A block of row numbers for multicast deliveries that nobody else gets; the first is the one returned, and
    /// `ROW_BLOCK` follow downwards.
    fn row_block(&self) -> impl Future<Output = ArchiveResult<Row>> + Send;

    /// Commits a group, or nothing of it.
    fn commit(&self, group: &Group) -> impl Future<Output = ArchiveResult<Committed>> + Send;

    /// What is in state `Stored` for each of the inboxes, ascending.
    fn surviving(&self, keys: &[InboxKey])
    -> impl Future<Output = ArchiveResult<Vec<Vec<Surviving>>>> + Send;

    /// What is recorded of these deliveries.
    fn recorded(
        &self,
        wanted: &[Wanted],
    ) -> impl Future<Output = ArchiveResult<Vec<Option<Recorded>>>> + Send;

    /// All deliveries of a message. The flag tells whether it was a multicast.
    fn deliveries_of(
        &self,
        app: AppId,
        id: MessageId,
    ) -> impl Future<Output = ArchiveResult<(Vec<Recorded>, bool)>> + Send;

    /// Payloads. Those that are gone are not in the answer.
    fn payloads(
        &self,
        ids: &[MessageId],
    ) -> impl Future<Output = ArchiveResult<HashMap<MessageId, Bytes>>> + Send;

    /// Greatest message id that was ever stored and is still known.
    fn greatest_id(&self) -> impl Future<Output = ArchiveResult<MessageId>> + Send;

    /// When the last of the idempotency keys that are here ends, ms since 1970; 0 if there is none.
    fn reserved_until(&self) -> impl Future<Output = ArchiveResult<u64>> + Send;

    /// Inboxes with stored messages whose id is greater than `after`, at most `max` messages; and where to go on.
    fn recently_stored(
        &self,
        after: MessageId,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<(Vec<InboxKey>, Option<MessageId>)>> + Send;

    /// The users' cursors.
    fn cursors(&self, keys: &[InboxKey]) -> impl Future<Output = ArchiveResult<Vec<Option<Cursor>>>> + Send;

    /// Reads a broadcast log after a number.
    fn broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> impl Future<Output = ArchiveResult<BroadcastPage>> + Send;

    /// One broadcast: its first entry, the end of the last, and whether any was taken back.
    fn broadcast(
        &self,
        app: AppId,
        id: MessageId,
    ) -> impl Future<Output = ArchiveResult<Option<LoggedBroadcast>>> + Send;

    /// A job, with its payload.
    fn job(&self, app: AppId, id: MessageId) -> impl Future<Output = ArchiveResult<Option<Job>>> + Send;

    /// Jobs of all apps that have not ended, without payloads.
    fn active_jobs(&self) -> impl Future<Output = ArchiveResult<Vec<Job>>> + Send;

    /// An app's jobs before an id, newest first, without payloads.
    fn jobs(
        &self,
        app: AppId,
        before: MessageId,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<Vec<Job>>> + Send;

    /// What is counted of broadcasts; `None` for those that are not known.
    fn broadcast_counts(
        &self,
        app: AppId,
        ids: &[MessageId],
    ) -> impl Future<Output = ArchiveResult<Vec<Option<Counts>>>> + Send;

    /// Deliveries of a message to users whose names come after one, in the order of names; at most `max`.
    fn targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<Vec<Recorded>>> + Send;

    /// Parts of pushes for later that are due, soonest first, after one; at most `max`.
    fn due(
        &self,
        now_ms: u64,
        after: Option<&PartDue>,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<Vec<PartDue>>> + Send;

    /// An app's parts of pushes for later, soonest first, after one; at most `max`.
    fn scheduled_of(
        &self,
        app: AppId,
        after: Option<&PartDue>,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<Vec<PartHead>>> + Send;

    /// A part of a push for later, as it was given.
    fn scheduled(&self, name: PartName) -> impl Future<Output = ArchiveResult<Option<ScheduledPush>>> + Send;

    /// The users' offsets from UTC, minutes.
    fn offsets(&self, keys: &[InboxKey]) -> impl Future<Output = ArchiveResult<Vec<Option<i16>>>> + Send;

    /// Heads of logs; an app without one is left out.
    fn heads(&self, apps: &[AppId]) -> impl Future<Output = ArchiveResult<Vec<(AppId, Cursor)>>> + Send;

    /// Apps that changed after a revision, and the revision now.
    fn apps(&self, after_revision: u64) -> impl Future<Output = ArchiveResult<(Vec<App>, u64)>> + Send;

    /// The API key with this hash.
    fn find_key(&self, hash: &[u8]) -> impl Future<Output = ArchiveResult<Option<ApiKey>>> + Send;

    /// Looks at up to `max` stored deliveries after a place: those that are over, and where to go on.
    fn expired(
        &self,
        after: Option<StoredPlace>,
        now_ms: u64,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<(Vec<Row>, Option<StoredPlace>)>> + Send;

    /// Looks at up to `max` deliveries to one user after a row: those that finished and were accepted before a
    /// time, and where to go on.
    fn finished_unicast(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<(Vec<Row>, Option<Row>)>> + Send;

    /// Looks at up to `max` multicasts after an id: those accepted before a time, and where to go on.
    fn old_multicasts(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> impl Future<Output = ArchiveResult<(Vec<MessageId>, Option<MessageId>)>> + Send;

    /// Lands a part of a shared store's journal as one transaction: idempotent, and concurrently by several savers.
    /// `Conflict` says that it may bring back rows that were forgotten since [`Landing::forgets`] was asked for: ask
    /// anew, and then read the journal again.
    fn land(&self, landing: &Landing) -> impl Future<Output = ArchiveResult<()>> + Send;

    /// How often deliveries were forgotten. To be asked before the journal is read for a landing; once for many
    /// landings is enough, until one is refused with `Conflict`.
    fn forgets(&self) -> impl Future<Output = ArchiveResult<u64>> + Send;

    /// The present life of the shared store; none before its first.
    fn shared_life(&self) -> impl Future<Output = ArchiveResult<Option<SharedLife>>> + Send;

    /// Begins a life of the shared store, in an epoch greater than any before, if the present one's epoch is `from`.
    /// `None` says that it is another: somebody else was first.
    fn begin_shared_life(
        &self,
        from: Option<Epoch>,
        store: &str,
        partitions: u32,
    ) -> impl Future<Output = ArchiveResult<Option<SharedLife>>> + Send;
}

/// Row numbers in a block.
pub const ROW_BLOCK: u64 = 1 << 32;
