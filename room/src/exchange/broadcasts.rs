//! Broadcasts between a thread and the rest of the room: what the log holds, and what has become of it here.

use std::sync::Arc;

use audience::{Audience, Filter, Slice};
use bytes::Bytes;
use wire::{
    codec::encode_broadcast,
    frame::Broadcast,
    id::{AppId, Cursor, MessageId},
};

use super::BindingKey;

/// Whom a broadcast is meant for, but for its slice of the ring. The slices of one broadcast share it.
#[derive(Debug, Default, PartialEq)]
pub struct Meant {
    /// By tags.
    pub audience: Audience,
    /// By all else; for the whole ring.
    pub filter: Filter,
}

impl Meant {
    /// Whether it is meant for everyone.
    pub fn is_everyone(&self) -> bool {
        self.audience.is_everyone() && self.filter.is_everyone()
    }
}

impl From<Audience> for Meant {
    fn from(audience: Audience) -> Self {
        Self { audience, filter: Filter::default() }
    }
}

/// What is sent of a broadcast.
#[derive(Debug, Clone)]
pub enum Body {
    /// A frame that all receivers share, with its length prefix.
    Frame(Bytes),
    /// The parts of one of many slices: they share the payload, and a frame is made when somebody is to be sent it.
    Parts {
        /// The app.
        app: AppId,
        /// What the app sent.
        payload: Bytes,
        /// When the cluster took it.
        accepted_ms: u64,
    },
    /// Nothing: it was taken back, and is here for the sake of the count.
    Gone,
}

/// One entry of a broadcast log: a broadcast, or a slice of one.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Place in the log.
    pub bseq: u64,
    /// Its id; that of all slices of a broadcast.
    pub id: MessageId,
    /// What is sent.
    pub body: Body,
    /// For whom.
    pub meant: Arc<Meant>,
    /// And for which part of the ring.
    pub slice: Slice,
    /// Not sent any more from then on, ms since 1970; 0 = never.
    pub expires_ms: u64,
    /// It was taken back.
    pub recalled: bool,
}

/// What an entry takes besides its frame or payload.
const ENTRY_BYTES: usize = 160;

impl LogEntry {
    /// A broadcast to a tag expression and the whole ring.
    pub fn whole(bseq: u64, id: MessageId, frame: Bytes, audience: Audience, expires_ms: u64) -> Self {
        let meant = Arc::new(audience.into());
        Self { bseq, id, body: Body::Frame(frame), meant, slice: Slice::WHOLE, expires_ms, recalled: false }
    }

    /// The frame, with its length prefix. Made anew for each call if it is a slice.
    pub fn frame(&self) -> Bytes {
        match &self.body {
            Body::Frame(frame) => frame.clone(),
            Body::Parts { app, payload, accepted_ms } => encode_broadcast(&Broadcast {
                app: app.0,
                bseq: self.bseq,
                id: self.id.0,
                payload: payload.clone(),
                accepted_ms: *accepted_ms,
                binding: 0,
            }),
            Body::Gone => Bytes::new(),
        }
    }

    /// Whether nothing is sent of it any more.
    pub fn is_dead(&self, unix_ms: u64) -> bool {
        self.recalled || (self.expires_ms != 0 && self.expires_ms <= unix_ms)
    }

    /// Bytes that it holds, if the entry before it is `before`.
    pub fn bytes(&self, before: Option<&Self>) -> usize {
        match (&self.body, before.map(|before| &before.body)) {
            (Body::Frame(frame), _) => frame.len(),
            (Body::Parts { payload, .. }, Some(Body::Parts { payload: other, .. }))
                if payload.as_ptr() == other.as_ptr() =>
            {
                ENTRY_BYTES
            }
            (Body::Parts { payload, .. }, _) => payload.len() + ENTRY_BYTES,
            (Body::Gone, _) => ENTRY_BYTES,
        }
    }
}

/// A run of an app's log without holes: numbers in (after, through] that are not in `entries` hold nothing.
#[derive(Debug, Clone)]
pub struct LogRun {
    /// The app.
    pub app: AppId,
    /// Numbering.
    pub epoch: u64,
    /// Where it begins.
    pub after: u64,
    /// Where it ends.
    pub through: u64,
    /// Ascending.
    pub entries: Vec<Arc<LogEntry>>,
}

/// What a thread has done for a broadcast. What of `acked`, `pending`, `expired` and `recalled` each means is said where the
/// protocol has it: bindings here of which the archive has not been told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of the protocol.
pub struct Progress {
    pub sent: u64,
    pub acked: u64,
    pub pending: u64,
    pub expired: u64,
    pub recalled: u64,
    pub latency: Latency,
    pub ripe: u64,
    pub ripe_acked: u64,
}

/// Counts of times up to 1, 2, 4 … 2^19 ms.
pub type Latency = [u64; 20];

impl Progress {
    /// Bindings that it is meant for and of which the archive has not been told.
    pub fn targets(&self) -> u64 {
        self.acked + self.pending + self.expired + self.recalled
    }

    /// Adds what another thread has done.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.pending += other.pending;
        self.expired += other.expired;
        self.recalled += other.recalled;
        self.ripe += other.ripe;
        self.ripe_acked += other.ripe_acked;
        for (bucket, more) in self.latency.iter_mut().zip(other.latency) {
            *bucket += more;
        }
    }
}

/// What became of a broadcast for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// The device has it.
    Acked,
    /// It expired before it could be sent.
    Expired,
    /// It was taken back before it could be sent.
    Recalled,
}

/// A broadcast that is to be counted for a user when its cursor is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credit {
    /// Its place in the log.
    pub bseq: u64,
    /// Its id.
    pub id: MessageId,
    /// What became of it.
    pub fate: Fate,
}

/// The broadcast cursor of a live binding is to be kept, with what is to be counted up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAsk {
    /// The binding; one such ask is under way for each.
    pub binding: BindingKey,
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: wire::id::Uid,
    /// What is to be kept.
    pub cursor: Cursor,
    /// In order.
    pub credits: Vec<Credit>,
}

/// Answer to a [`KeepAsk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAnswer {
    /// The binding that asked.
    pub binding: BindingKey,
    /// The place up to which the archive has it for certain; `None` = not known.
    pub kept: Option<Cursor>,
}
