//! What the tokio side tells a thread: answers to its asks, and what other services want of the room.

use audience::Device;
use bytes::Bytes;
use wire::{
    frame::{BindCode, UpCode},
    id::{AppId, ConnId, Cursor, FenceNumber, MessageId, Position, Uid},
};

use super::{BindingKey, ConnKey, Credit};

/// Answer to a [`super::BindAsk`].
#[derive(Debug)]
pub struct BindAnswer {
    /// The binding that waits.
    pub binding: BindingKey,
    /// The tags of the ask.
    pub tags: Vec<String>,
    /// What the device told of itself.
    pub device: Device,
    /// What came of it.
    pub result: Result<BindDone, BindRefusal>,
}

/// A bind that the register has taken.
#[derive(Debug)]
pub struct BindDone {
    /// The app's number.
    pub app: AppId,
    /// The session's fence.
    pub fence: FenceNumber,
    /// First page of the inbox; its start is what the device is told.
    pub inbox: LoadDone,
    /// Where the device's broadcasts go on.
    pub cursor: Cursor,
    /// The cursor that the saver has.
    pub saved_cursor: Cursor,
    /// What is to be counted up to the device's own cursor, if that is further and the saver could not be told.
    pub owed: Vec<Credit>,
    /// The app's log when the bind was answered.
    pub log: Cursor,
    /// A kick for this session has come already.
    pub kicked: Option<KickWhy>,
    /// A message may have been stored after the page was read, and its delivery missed the binding.
    pub reload: bool,
}

/// A bind that failed; the device is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRefusal {
    /// What is wrong.
    pub code: BindCode,
    /// The same for a person.
    pub message: String,
    /// When to try again, for [`BindCode::Busy`].
    pub retry_after_ms: u32,
}

/// Answer to a [`super::LoadAsk`].
#[derive(Debug)]
pub struct LoadAnswer {
    /// The binding that asked.
    pub binding: BindingKey,
    /// The page, or nothing if the saver could not be asked: the binding asks again later.
    pub result: Option<LoadDone>,
}

/// A page of an inbox.
#[derive(Debug, Default)]
pub struct LoadDone {
    /// Where reading started, in the inbox's present epoch.
    pub start: Position,
    /// Ascending; numbers in (start, through] that are not here hold nothing.
    pub messages: Vec<StoredMessage>,
    /// How far it was read.
    pub through: u64,
    /// There is more after `through`.
    pub more: bool,
}

/// A message in an inbox.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Place in the inbox.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// What the app sent.
    pub payload: Bytes,
    /// When the cluster took it.
    pub accepted_ms: u64,
    /// It takes the place of earlier ones with the same key; empty = it does not.
    pub collapse_key: Box<str>,
}

/// Answer to a [`super::UpAsk`].
#[derive(Debug, Clone, Copy)]
pub struct UpAnswer {
    /// Whom to answer.
    pub conn: ConnKey,
    /// The device's own number.
    pub reference: u64,
    /// What came of it.
    pub code: UpCode,
    /// For [`UpCode::Retry`].
    pub retry_after_ms: u32,
    /// Bytes of the payload that was answered for.
    pub bytes: usize,
}

/// A message for a user, or a hint that one waits.
#[derive(Debug, Clone)]
pub struct DeliveryItem {
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// The session that is meant; `None` = whichever is bound.
    pub fence: Option<FenceNumber>,
    /// Numbering of `seq`.
    pub epoch: u64,
    /// Place in the inbox; 0 = transient.
    pub seq: u64,
    /// The message's id.
    pub id: MessageId,
    /// `None` = a nudge: the inbox reaches to `seq`.
    pub payload: Option<Bytes>,
    /// When the cluster took it.
    pub accepted_ms: u64,
    /// It takes the place of earlier ones with the same key; empty = it does not.
    pub collapse_key: Box<str>,
    /// Before all that is not urgent, but for earlier ones of the same inbox.
    pub urgent: bool,
}

/// What became of a [`DeliveryItem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// No such session in this thread.
    NotHere,
    /// Written, queued, or known and to be caught up from the inbox.
    Sent,
    /// Transient, and the connection is over its bound.
    Shed,
    /// Transient, and the device's connection has just broken; it may come back.
    Away,
}

/// Why a binding is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KickWhy {
    /// The user bound elsewhere.
    Replaced,
    /// The app asked for it.
    Kicked,
}

/// Ends the user's bindings whose fence is at most `fence`.
#[derive(Debug, Clone)]
pub struct KickOrder {
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// The newest session that is meant.
    pub fence: FenceNumber,
    /// What the device is told.
    pub why: KickWhy,
}

/// How devices are told to leave.
#[derive(Debug, Clone, Copy)]
pub struct DrainOrder {
    /// Connections told per second.
    pub per_second: u32,
    /// Each is told to wait a random time up to this, ms.
    pub spread_ms: u32,
    /// A connection that has not left so long after it should have is closed, ms.
    pub linger_ms: u32,
}

/// A session that a thread holds, as the register knows it.
#[derive(Debug, Clone)]
pub struct HeldSession {
    /// Its binding.
    pub binding: BindingKey,
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// The connection.
    pub conn: ConnId,
    /// Its fence.
    pub fence: FenceNumber,
}
