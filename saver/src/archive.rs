//! The seam of the archives: what is durable. Everything that the cluster has answered for is here, and all else
//! can be rebuilt from it.
//!
//! Writes come as a [`Group`], which an archive commits as one transaction with statements of many rows each, or
//! not at all. Reads see only what is committed. The embedded archive is `sqlite::SqliteArchive`; that of a cluster is
//! `mysql::MySqlArchive`.

use std::{collections::HashMap, future::Future};

use bytes::Bytes;
use proto::internal::{App, Filter, Job, ScheduledPush};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId, Position, Seq, Uid};

use crate::model::{CollapseKey, InboxKey, Row, State, Surviving};

#[cfg(test)]
pub(crate) mod conformance;
mod credits;
#[cfg(test)]
pub(crate) mod flaky;
mod jobs;
#[cfg(feature = "cluster-stores")]
pub mod mysql;
mod schedule;
mod shared;
pub mod sqlite;

pub(crate) use credits::is_before;
pub use credits::{Counts, Credit, CreditKind, Passed};
pub use jobs::{JobWrite, JobWritten, MOST_JOBS};
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

/// A delivery to store.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its name.
    pub row: Row,
    /// The message. For a message to one user it is the row's number.
    pub id: MessageId,
    /// The inbox.
    pub key: InboxKey,
    /// Its place there.
    pub position: Position,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// Size of its payload.
    pub payload_bytes: u32,
    /// Its collapse key, which is kept for as long as it is stored.
    pub collapse: Option<CollapseKey>,
}

/// A payload to store, once for all its receivers.
#[derive(Clone, Debug)]
pub struct Body {
    /// The message.
    pub id: MessageId,
    /// What to deliver.
    pub payload: Bytes,
}

/// An idempotency key that asks for a message id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The app.
    pub app: AppId,
    /// The key.
    pub word: String,
    /// Id to tie to it if it is new.
    pub id: MessageId,
    /// SHA-256 of the request.
    pub fingerprint: Bytes,
    /// When the key may be used anew, ms since 1970.
    pub expires_ms: u64,
}

/// What an idempotency key is tied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The message.
    pub id: MessageId,
    /// The key was there before.
    pub repeated: bool,
    /// It was there before for another request.
    pub mismatch: bool,
}

/// A broadcast to append to its app's log.
#[derive(Clone, Debug)]
pub struct NewBroadcast {
    /// The app.
    pub app: AppId,
    /// The message.
    pub id: MessageId,
    /// What to deliver.
    pub payload: Bytes,
    /// Tag expression.
    pub audience: String,
    /// Whom it is meant for besides; `None` = everyone.
    pub filter: Option<Filter>,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
}

/// A broadcast's place in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The place.
    pub place: Cursor,
    /// It was appended before.
    pub repeated: bool,
}

/// An entry of a log: a broadcast, or one slice of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBroadcast {
    /// The place in the log.
    pub place: Cursor,
    /// The message.
    pub id: MessageId,
    /// What to deliver.
    pub payload: Bytes,
    /// Tag expression.
    pub audience: String,
    /// Whom it is meant for besides; `None` = everyone.
    pub filter: Option<Filter>,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// Taken back.
    pub recalled: bool,
}

impl LoggedBroadcast {
    /// Whether it is still to be delivered.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        !self.recalled && self.expires_ms > now_ms
    }
}

/// A part of a broadcast log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroadcastPage {
    /// Ascending. Those that were taken back or are over are without their payloads: rooms count by them what has become
    /// of them.
    pub broadcasts: Vec<LoggedBroadcast>,
    /// Numbers up to here that are not among them hold nothing.
    pub through: Bseq,
    /// There is more after `through`.
    pub more: bool,
    /// Newest number of the log.
    pub head: Cursor,
}

/// An API key, kept as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// SHA-256 of the key's text.
    pub hash: Bytes,
    /// The app that it is for.
    pub app: AppId,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
}

/// Rows to forget for good.
#[derive(Clone, Debug, Default)]
pub struct Forget {
    /// Deliveries of messages to one user, and their payloads if these are still there.
    pub unicast: Vec<Row>,
    /// Multicasts whose finished deliveries may go, a bounded number of them; the message goes with its last.
    pub multicast: Vec<MessageId>,
    /// Idempotency keys that were over before this time; a bounded number of them.
    pub reservations_before_ms: Option<u64>,
    /// Entries of logs that were over before this time, and jobs that had ended; a bounded number of them.
    pub broadcasts_before_ms: Option<u64>,
}

impl Forget {
    /// Nothing to forget.
    pub fn is_empty(&self) -> bool {
        let times = self.reservations_before_ms.is_some() || self.broadcasts_before_ms.is_some();
        self.unicast.is_empty() && self.multicast.is_empty() && !times
    }

    /// Greatest message whose deliveries are to be forgotten.
    fn greatest_id(&self) -> Option<MessageId> {
        let unicast = self.unicast.iter().map(|row| MessageId(row.0.cast_unsigned()));
        unicast.chain(self.multicast.iter().copied()).max()
    }
}

/// All that one transaction writes, in this order.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Payloads. One that is there already stays.
    pub bodies: Vec<Body>,
    /// Deliveries; each row must be new.
    pub deliveries: Vec<NewDelivery>,
    /// Final states. A delivery that has one already keeps it.
    pub finished: Vec<(Row, State)>,
    /// Cursors to move, and what is counted of the broadcasts that they pass.
    pub passed: Vec<Passed>,
    /// Cursors to move; they only move forward.
    pub cursors: Vec<(InboxKey, Cursor)>,
    /// Users seen for the first time: a cursor at the head of the app's log, unless they have one.
    pub newcomers: Vec<InboxKey>,
    /// Idempotency keys.
    pub reservations: Vec<Reservation>,
    /// Broadcasts.
    pub broadcasts: Vec<NewBroadcast>,
    /// Broadcasts to take back: all entries of each, and its job is stopped.
    pub broadcast_recalls: Vec<(AppId, MessageId)>,
    /// Jobs.
    pub jobs: Vec<JobWrite>,
    /// Offsets of devices' clocks from UTC, minutes: those that users told last.
    pub offsets: Vec<(InboxKey, i16)>,
    /// Parts of pushes for later. One that is there already stays.
    pub scheduled: Vec<NewPart>,
    /// Pushes for later that are done or taken back: one part, or all.
    pub unscheduled: Vec<(AppId, MessageId, Option<u32>)>,
    /// Apps: id 0 creates one, any other changes it, if it still has its revision; 0 is any.
    pub apps: Vec<App>,
    /// API keys.
    pub keys: Vec<ApiKey>,
    /// The shared store, being away, was not told of the idempotency keys: its present life lacks something.
    pub unseen: bool,
    /// Clean-up.
    pub forget: Forget,
    /// The time, for what must know whether something is over.
    pub now_ms: u64,
}

/// Why an app was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppRefused {
    /// The key belongs to another app.
    KeyTaken,
    /// No app has this id.
    Unknown,
    /// It has another revision than the change was made from.
    Changed,
}

/// What says from which revision a change was made.
trait Revised {
    /// Whether the change was made from another revision than the one that is stored.
    fn is_older_than(&self, stored: u64) -> bool;
}

impl Revised for App {
    fn is_older_than(&self, stored: u64) -> bool {
        self.revision != 0 && self.revision != stored
    }
}

/// What a committed group answers, each list in the order of the group's.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The newcomers' cursors.
    pub newcomers: Vec<Cursor>,
    /// What the idempotency keys are tied to.
    pub reservations: Vec<Reserved>,
    /// Places of the broadcasts.
    pub broadcasts: Vec<Numbered>,
    /// Whether anything of each broadcast was there to be taken back, or to be stopped.
    pub broadcast_recalls: Vec<bool>,
    /// What became of what was to be written about jobs.
    pub jobs: Vec<JobWritten>,
    /// Whether each part of a push for later was there before.
    pub scheduled: Vec<bool>,
    /// How many users the removed parts had.
    pub unscheduled: Vec<u64>,
    /// The apps as stored.
    pub apps: Vec<Result<App, AppRefused>>,
    /// Whether each API key's app exists.
    pub keys: Vec<bool>,
    /// Rows forgotten.
    pub forgotten: u64,
}

/// A delivery that the archive may have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The message.
    pub id: MessageId,
    /// The inbox.
    pub key: InboxKey,
    /// One of many receivers.
    pub multicast: bool,
}

/// A delivery that the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The inbox's user; another than was asked for if the id was used twice.
    pub uid: Uid,
    /// The inbox's app.
    pub app: AppId,
    /// Its name.
    pub row: Row,
    /// Its place.
    pub position: Position,
    /// What has become of it.
    pub state: State,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
}

/// A place in the walk over all stored deliveries.
pub type StoredPlace = (AppId, String, Seq);

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
