//! What is written into an archive and read from it.

use bytes::Bytes;
use proto::internal::{App, Filter};
use wire::id::{AppId, Bseq, Cursor, MessageId, Position, Seq, Uid};

use super::{JobWrite, JobWritten, NewPart, Passed};
use crate::model::{CollapseKey, InboxKey, Row, State};

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
    pub(super) fn greatest_id(&self) -> Option<MessageId> {
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
    /// Users of whom no cursor is known: they get one, unless they have one.
    pub newcomers: Vec<Newcomer>,
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

/// A user of whom no cursor is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The user.
    pub key: InboxKey,
    /// The place in the log that its device named.
    pub own: Option<Cursor>,
}

impl Newcomer {
    /// Where it begins: behind all that there is. But a device that names a place of this log was here before, and would
    /// miss what has come since.
    pub(super) fn begins(&self, head: Cursor) -> Cursor {
        self.own.filter(|own| own.epoch == head.epoch && own.bseq <= head.bseq).unwrap_or(head)
    }
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
pub(super) trait Revised {
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
