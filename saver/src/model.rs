//! What the stores and the engine speak about.

use std::{
    hash::{BuildHasher as _, Hash, Hasher},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use wire::id::{AppId, MessageId, Position, Seq, Uid};

/// Address of an inbox. It carries its hash: each message is looked up about five times on its way.
#[derive(Clone, Debug)]
pub struct InboxKey {
    app: AppId,
    uid: Uid,
    hash: u64,
}

impl InboxKey {
    /// The inbox of a user.
    pub fn new(app: AppId, uid: Uid) -> Self {
        // Seeded at random once a process, so that nobody can choose uids that collide.
        static SEED: OnceLock<foldhash::fast::RandomState> = OnceLock::new();
        let hash = SEED.get_or_init(foldhash::fast::RandomState::default).hash_one((app, uid.as_str()));
        Self { app, uid, hash }
    }

    /// The app.
    pub fn app(&self) -> AppId {
        self.app
    }

    /// The user.
    pub fn uid(&self) -> &Uid {
        &self.uid
    }

    /// The uid's text, shared.
    pub fn text(&self) -> Arc<str> {
        self.uid.clone().into()
    }

    /// Hash of app and uid; differs from process to process.
    pub fn hash64(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for InboxKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.app == other.app && self.uid == other.uid
    }
}

impl Eq for InboxKey {}

impl Hash for InboxKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The archive's name of one delivery: the message id itself for a message to one user (positive), and a number
/// of the archive's own for each receiver of a multicast (negative).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub i64);

impl Row {
    /// The delivery of a message to one user.
    pub fn unicast(id: MessageId) -> Self {
        Self(id.0.cast_signed())
    }

    /// Whether it is one of many receivers of the message.
    pub fn is_multicast(self) -> bool {
        self.0 < 0
    }
}

/// Names what a message is about, so that a newer one takes its place: 1 to 64 bytes.
pub type CollapseKey = Arc<str>;

/// Longest collapse key, in bytes.
pub const MAX_COLLAPSE_BYTES: usize = 64;

/// What has become of a delivery. Every delivery is in exactly one state: that is why the ledger balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// In the inbox.
    Stored = 0,
    /// The device has it.
    Acked = 1,
    /// Its time was over.
    Expired = 2,
    /// The inbox was full and this was the oldest.
    InboxFull = 3,
    /// Loaded too often without an ack: a dead letter. Its payload is kept until it is cleaned up.
    MaxLoads = 4,
    /// Taken back.
    Recalled = 5,
    /// A newer message with the same collapse key took its place.
    Replaced = 6,
}

impl State {
    /// All states but `Stored`.
    pub const FINAL: [State; 6] =
        [State::Acked, State::Expired, State::InboxFull, State::MaxLoads, State::Recalled, State::Replaced];

    /// The state that the archive wrote as this number.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(State::Stored),
            1 => Some(State::Acked),
            2 => Some(State::Expired),
            3 => Some(State::InboxFull),
            4 => Some(State::MaxLoads),
            5 => Some(State::Recalled),
            6 => Some(State::Replaced),
            _ => None,
        }
    }

    /// The word for why a delivery in this state was dropped; none in the others.
    pub fn drop_reason(self) -> Option<&'static str> {
        match self {
            State::InboxFull => Some("inbox_full"),
            State::MaxLoads => Some("max_loads"),
            State::Replaced => Some("replaced"),
            State::Stored | State::Acked | State::Expired | State::Recalled => None,
        }
    }

    /// Whether nobody will ask for the payload again.
    pub fn frees_payload(self) -> bool {
        !matches!(self, State::Stored | State::MaxLoads)
    }
}

/// A delivery that has left its inbox; the archive is still to hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The inbox it was in.
    pub key: InboxKey,
    /// The delivery.
    pub row: Row,
    /// Why it left.
    pub state: State,
}

/// A delivery on its way into an inbox.
#[derive(Clone, Debug)]
pub struct Staging {
    /// The inbox.
    pub key: InboxKey,
    /// Its name in the archive.
    pub row: Row,
    /// The message.
    pub id: MessageId,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// What to deliver. It owns its bytes: a slice of a request would keep the whole request in memory.
    pub payload: Bytes,
    /// Most messages that the inbox may hold; the oldest make room.
    pub cap: usize,
    /// It takes the place of stored messages of the inbox with the same key.
    pub collapse: Option<CollapseKey>,
}

/// A delivery that has its number, and is not yet visible to readers.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The inbox.
    pub key: InboxKey,
    /// Its place in it.
    pub position: Position,
    /// What leaves the inbox for it, in the archive's names, and why: the oldest that make room, and what it replaces.
    pub pushed_out: Vec<(Row, State)>,
}

/// A delivery that the archive still has in state `Stored`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surviving {
    /// Its name in the archive.
    pub row: Row,
    /// The message.
    pub id: MessageId,
    /// Its place, in the numbering of the epoch in which it was stored.
    pub birth: Position,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// Size of its payload.
    pub payload_bytes: u32,
    /// Its collapse key.
    pub collapse: Option<CollapseKey>,
}

/// How to read an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Read what comes after; `None` is from the oldest.
    pub after: Option<Position>,
    /// `after` is also a cumulative ack.
    pub acknowledges: bool,
    /// At most so many messages, 1 at the least.
    pub max_messages: usize,
    /// At most so many bytes of payload; one message is always returned.
    pub max_bytes: usize,
}

/// What an inbox gave.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Where reading started, in the present epoch.
    pub start: Position,
    /// Ascending by number.
    pub messages: Vec<LoadedMessage>,
    /// Numbers in (start, through] that are not among the messages hold nothing.
    pub through: Seq,
    /// There is more after `through`.
    pub more: bool,
    /// What left the inbox: acked, expired, or loaded too often.
    pub finished: Vec<Finished>,
}

/// A message as read from an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedMessage {
    /// Its number.
    pub seq: Seq,
    /// The message.
    pub id: MessageId,
    /// Its payload if the inbox store still has it; else it is read from the archive.
    pub payload: Option<Bytes>,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// Its collapse key.
    pub collapse: Option<CollapseKey>,
}

/// Whether a device at `position` has what was born at `birth`. Entries are ordered by epoch and by number
/// alike, so what a position covers is always the front of an inbox.
pub fn covers(position: Position, birth: Position) -> bool {
    birth.epoch <= position.epoch && birth.seq <= position.seq
}
