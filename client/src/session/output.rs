//! What a session gives its driver: bytes to write, events for the app, the end of a connection.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use wire::{
    WireError,
    close::{Wait, Whither},
    frame::{BindCode, CloseCode, UnboundReason},
    id::{AppId, BindingId, ConnId, Cursor, MessageId, Position},
};

/// What calls on a session put out. A driver keeps one and empties it after each call; many sessions can
/// share it.
#[derive(Debug, Default)]
pub struct Output {
    /// To be written to the connection, in this order. Also when the connection has ended: write what the
    /// socket takes, then close it.
    pub bytes: Vec<u8>,
    /// For the app, in this order.
    pub events: Vec<Event>,
    /// The connection has ended, for this reason. For [`Dialer::ended`](crate::Dialer::ended).
    pub ended: Option<Ending>,
    /// Messages and broadcasts that had been handed out before and were dropped.
    pub repeats: u64,
}

/// What happens to an app on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A room has answered.
    Connected {
        /// Name of the connection in logs and in the API.
        conn: ConnId,
        /// The heartbeat agreed on.
        heartbeat: Duration,
        /// It goes on where the last connection broke: what was bound is bound, without having been bound again.
        resumed: bool,
    },
    /// The connection has ended; the session goes on with the next one.
    Disconnected(Ending),
    /// No connection could be made, or the dispatcher named no address; the device tries on, later and elsewhere.
    /// It comes from the driver, and not while an earlier event waits to be taken.
    Unreachable {
        /// Who was asked and what went wrong.
        reason: String,
    },
    /// Messages of this user will come from here on.
    Bound {
        /// The binding.
        binding: BindingId,
        /// The app's number, as in [`Broadcast`].
        app: AppId,
        /// Place in the inbox from which messages follow.
        inbox: Position,
        /// Cursor in the broadcast log from which broadcasts follow.
        broadcasts: Cursor,
    },
    /// A bind failed.
    BindFailed {
        /// The binding.
        binding: BindingId,
        /// Why.
        code: BindCode,
        /// The same in words.
        message: String,
        /// Whether the session will not try again by itself.
        gives_up: bool,
    },
    /// The binding needs a (new) token: [`Session::set_token`](crate::Session::set_token).
    TokenNeeded {
        /// The binding.
        binding: BindingId,
    },
    /// No more messages of this user come on this connection.
    Unbound {
        /// The binding.
        binding: BindingId,
        /// Why. After `Lost` the session binds again by itself.
        reason: UnboundReason,
    },
    /// A message to one user.
    Message(Message),
    /// A message to many users.
    Broadcast(Broadcast),
    /// The backend took a message back: hide it.
    Recalled {
        /// The binding; `None` for a broadcast.
        binding: Option<BindingId>,
        /// The app of a broadcast.
        app: AppId,
        /// Which message.
        id: MessageId,
    },
    /// What became of an upstream frame.
    UpDone {
        /// The number that [`Session::up`](crate::Session::up) gave it.
        reference: u64,
        /// What became of it.
        outcome: UpOutcome,
    },
}

/// A message to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The binding.
    pub binding: BindingId,
    /// Its place in the inbox, for [`Session::confirm`](crate::Session::confirm); `None` = transient.
    pub position: Option<Position>,
    /// Its id.
    pub id: MessageId,
    /// What the backend sent.
    pub payload: Bytes,
    /// When the cluster accepted it, ms since 1970.
    pub accepted_ms: u64,
    /// It takes the place of earlier messages of this binding with the same key, those that were handed out too: show it instead.
    pub collapse_key: Option<Box<str>>,
}

/// A message to many users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// The app.
    pub app: AppId,
    /// The bindings of the app whose cursors it moved.
    pub bindings: SmallVec<[BindingId; 2]>,
    /// Its place in the app's log, for [`Session::confirm_broadcast`](crate::Session::confirm_broadcast).
    pub cursor: Cursor,
    /// Its id.
    pub id: MessageId,
    /// What the backend sent.
    pub payload: Bytes,
    /// When the cluster accepted it, ms since 1970.
    pub accepted_ms: u64,
}

/// What became of an upstream frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpOutcome {
    /// The backend, or the cluster's durable queue, has it.
    Accepted,
    /// It will never be taken.
    Rejected,
    /// Refused for the time being, too often.
    GivenUp,
    /// Its binding is no more.
    NoBinding,
}

/// Why and how a connection ended, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// Whether and where to connect again.
    pub whither: Whither,
    /// How long to wait before.
    pub wait: Wait,
    /// What the room said about the wait.
    pub retry_after: Duration,
    /// Where the room sends this device; empty = as `whither` says.
    pub addresses: Vec<String>,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The room closed it.
    #[error("the room closed the connection: {} {message}", code.label())]
    Closed {
        /// Why.
        code: CloseCode,
        /// The same in words.
        message: String,
    },
    /// The room asked the device to move.
    #[error("the room asked to move: {0}")]
    Moved(String),
    /// The room did not answer this frame in time.
    #[error("no answer to {0} in time")]
    NoAnswer(&'static str),
    /// The room was silent after a Ping.
    #[error("nothing heard after a ping")]
    Silent,
    /// The room broke the protocol.
    #[error("the room broke the protocol: {0}")]
    Violation(&'static str),
    /// The room sent what is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The network connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The app closed it.
    #[error("closed by the app")]
    Requested,
}

impl From<Cause> for Ending {
    fn from(cause: Cause) -> Self {
        let (whither, wait) = match &cause {
            Cause::Closed { code, .. } => {
                let advice = code.advice();
                (advice.whither, advice.wait)
            }
            Cause::Moved(_) => (Whither::Elsewhere, Wait::Brief),
            Cause::NoAnswer(_) => (Whither::Elsewhere, Wait::Backoff),
            Cause::Silent | Cause::Lost(_) => (Whither::Anywhere, Wait::Brief),
            Cause::Violation(_) | Cause::Wire(_) => (Whither::Anywhere, Wait::Backoff),
            Cause::Requested => (Whither::Nowhere, Wait::Brief),
        };
        Self { cause, whither, wait, retry_after: Duration::ZERO, addresses: Vec::new() }
    }
}
