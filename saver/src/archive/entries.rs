//! Entries of broadcast logs on their way into an archive.

use bytes::Bytes;
use proto::internal::{Filter, Job, ReleaseJobRequest};
use wire::id::{AppId, Cursor, MessageId};

use super::{JobWritten, LoggedBroadcast, NewBroadcast};

/// An entry that is still to get its number.
pub(super) struct NewEntry<'a> {
    pub(super) app: AppId,
    pub(super) id: MessageId,
    pub(super) filter: Option<&'a Filter>,
    pub(super) accepted_ms: u64,
    pub(super) expires_ms: u64,
    /// The part of a job that it is.
    pub(super) slice: Option<(u64, u64)>,
}

impl<'a> NewEntry<'a> {
    /// A broadcast that is one entry.
    pub(super) fn whole(b: &'a NewBroadcast) -> Self {
        Self {
            app: b.app,
            id: b.id,
            filter: b.filter.as_ref(),
            accepted_ms: b.accepted_ms,
            expires_ms: b.expires_ms,
            slice: None,
        }
    }

    /// A slice of a job.
    pub(super) fn slice(r: &'a ReleaseJobRequest) -> Self {
        Self {
            app: AppId(r.app),
            id: MessageId(r.id),
            filter: r.filter.as_ref(),
            accepted_ms: r.accepted_ms,
            expires_ms: r.expires_ms,
            slice: Some((r.from, r.to)),
        }
    }
}

/// A slice that is in the log.
pub(super) struct LoggedSlice {
    pub(super) place: Cursor,
    pub(super) accepted_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) recalled: bool,
}

impl LoggedSlice {
    /// One that has just been appended.
    pub(super) fn new(place: Cursor, r: &ReleaseJobRequest) -> Self {
        Self { place, accepted_ms: r.accepted_ms, expires_ms: r.expires_ms, recalled: false }
    }

    /// The answer, with what the slice shares with the others of its job: audience and payload.
    pub(super) fn released(
        self,
        r: &ReleaseJobRequest,
        job: Job,
        (audience, payload): (String, Vec<u8>),
        repeated: bool,
    ) -> JobWritten {
        let entry = LoggedBroadcast {
            place: self.place,
            id: MessageId(r.id),
            payload: Bytes::from(payload),
            audience,
            filter: r.filter.clone(),
            accepted_ms: self.accepted_ms,
            expires_ms: self.expires_ms,
            recalled: self.recalled,
        };
        JobWritten::Released { job: Box::new(job), entry: Box::new(entry), repeated }
    }
}
