//! The durable queue of events whose backend has not taken them yet.

use futures::future::BoxFuture;

use crate::event::{Event, Kind, LaneKey};

mod schema;
mod sqlite;
mod writes;

pub(crate) use sqlite::SqliteSpill;

/// The queue of one worker: events in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartKey {
    pub(crate) lane: LaneKey,
    /// Number of the worker.
    pub(crate) part: u16,
}

/// An event to keep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) spilled_ms: u64,
}

/// Names a kept event; grows.
pub(crate) type RowId = i64;

/// An event that waits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) row: RowId,
    pub(crate) event: Event,
    pub(crate) spilled_ms: u64,
    /// Requests that failed.
    pub(crate) attempts: u32,
    /// Requests that were refused.
    pub(crate) refusals: u32,
}

/// A stored event that cannot be read: a later version wrote it, or the file is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) row: RowId,
    /// What it was counted with.
    pub(crate) bytes: u64,
    pub(crate) why: String,
}

/// A part of a worker's queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Page {
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) unreadable: Vec<Unreadable>,
    /// The last row of either kind; none if there is nothing to read.
    pub(crate) last: Option<RowId>,
}

/// What waits in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) lane: LaneKey,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeadLetter {
    pub(crate) row: RowId,
    pub(crate) kind: Kind,
    /// Or the bytes that are none.
    pub(crate) event: Result<Event, Vec<u8>>,
    pub(crate) spilled_ms: u64,
    pub(crate) died_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

/// The queue cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the spill queue failed: {0}")]
pub(crate) struct SpillError(pub(crate) String);

pub(crate) type SpillResult<'a, T> = BoxFuture<'a, Result<T, SpillError>>;

/// The durable queue. A worker's calls take effect in the order in which it makes them.
pub(crate) trait Spill: Send + Sync + 'static {
    /// Keeps events; answers their rows when all of them are durable. None is kept if it fails.
    fn append(&self, entries: Vec<Entry>) -> SpillResult<'_, Vec<RowId>>;

    /// The oldest events of a worker after a row: about so many bytes, at least one if there is one. Those that cannot
    /// be read are answered apart, so that they hold up no other.
    fn read(&self, part: PartKey, after: RowId, bytes: usize) -> SpillResult<'_, Page>;

    /// Forgets an event that was delivered, some time soon. If a crash comes between, it is delivered once more.
    fn remove(&self, row: RowId) -> SpillResult<'_, ()>;

    /// Keeps how often an event failed, some time soon.
    fn count(&self, row: RowId, attempts: u32, refusals: u32) -> SpillResult<'_, ()>;

    /// Makes a dead letter of an event.
    fn bury(&self, row: RowId, died_ms: u64, reason: String) -> SpillResult<'_, ()>;

    /// Waits until all that was asked before is durable.
    fn flush(&self) -> SpillResult<'_, ()>;

    /// What waits, by lane.
    fn backlog(&self) -> SpillResult<'_, Vec<Backlog>>;

    /// Dead letters of an app after a row, the oldest first.
    fn dead(&self, app: u32, after: RowId, limit: u32) -> SpillResult<'_, Vec<DeadLetter>>;

    /// Puts dead letters of an app back into the queue, behind what waits: all up to and including `up_to`. Answers
    /// the lanes that got some and how many.
    fn replay(&self, app: u32, up_to: RowId, now_ms: u64) -> SpillResult<'_, Vec<Backlog>>;
}
