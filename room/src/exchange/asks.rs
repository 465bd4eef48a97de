//! What a thread asks of the tokio side.

use std::collections::VecDeque;

use audience::Device;
use bytes::Bytes;
use wire::id::{AppId, AppKey, ConnId, Cursor, FenceNumber, Position, Uid};

use super::{BindingKey, ConnKey, Credit, KeepAsk};

/// A device wants to bind. It is always answered, and until then the thread keeps the binding's place.
#[derive(Debug)]
pub struct BindAsk {
    /// The binding that waits.
    pub binding: BindingKey,
    /// Its connection, as the register will name it.
    pub conn: ConnId,
    /// The app, not yet known to exist.
    pub app: AppKey,
    /// The user.
    pub uid: Uid,
    /// JWT.
    pub token: String,
    /// Tags; they come back with the answer.
    pub tags: Vec<String>,
    /// What the device told of itself; it comes back too.
    pub device: Device,
    /// What the device has kept of its inbox.
    pub inbox: Option<Position>,
    /// What the device has kept of the broadcasts.
    pub broadcasts: Option<Cursor>,
}

/// The inbox has something after `after`. One such ask is under way per binding.
#[derive(Debug, Clone)]
pub struct LoadAsk {
    /// The binding that wants it.
    pub binding: BindingKey,
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// The last number that was sent.
    pub after: Position,
}

/// The device has everything up to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckAsk {
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// Cumulative.
    pub inbox: Position,
}

/// A binding has ended: what is to be written down, and the fence of the session to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndAsk {
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// The connection it was on.
    pub conn: ConnId,
    /// The session that ends, and no later one.
    pub fence: FenceNumber,
    /// An ack that was not handed over before.
    pub inbox: Option<Position>,
    /// The broadcast cursor, if it has moved.
    pub cursor: Option<Cursor>,
    /// What is to be counted up to that cursor.
    pub credits: Vec<Credit>,
}

/// Data for the app's backend. Answered with the same connection and number.
#[derive(Debug)]
pub struct UpAsk {
    /// Whom to answer.
    pub conn: ConnKey,
    /// The app.
    pub app: AppId,
    /// The user.
    pub uid: Uid,
    /// Routing word.
    pub kind: String,
    /// The data.
    pub payload: Bytes,
    /// The device's own number.
    pub reference: u64,
}

/// Part of an app's broadcast log that the thread has not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAsk {
    /// The app.
    pub app: AppId,
    /// The last number that is not wanted.
    pub after: u64,
}

/// A queue is full; here is the item back.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// Asks that wait to be handed over, in order.
#[derive(Debug)]
pub struct Outgoing<T> {
    items: VecDeque<T>,
    bound: usize,
}

impl<T> Outgoing<T> {
    /// An empty queue for at most `bound` items.
    pub fn new(bound: usize) -> Self {
        Self { items: VecDeque::new(), bound: bound.max(1) }
    }

    /// Queues an item.
    ///
    /// # Errors
    /// [`Full`] gives it back.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.items.len() >= self.bound {
            return Err(Full(item));
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes the oldest items, at most `max`.
    pub fn take(&mut self, max: usize) -> Vec<T> {
        let count = max.min(self.items.len());
        let batch = self.items.drain(..count).collect();
        // A storm leaves no buffer behind.
        if self.items.is_empty() && self.items.capacity() > 1024 {
            self.items = VecDeque::new();
        }
        batch
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is no place.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.bound
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }
}

/// The asks of one thread that are waiting to be handed over, by kind, so that a stall of one never holds up another.
/// Acks and ends have no queue of their own: they wait in the bindings they speak of, which are bounded already.
#[derive(Debug)]
pub struct Asks {
    /// When full, the device is told "busy".
    pub binds: Outgoing<BindAsk>,
    /// When full, the binding is parked and asks again at a later tick.
    pub loads: Outgoing<LoadAsk>,
    /// When full, the device is told to send again.
    pub ups: Outgoing<UpAsk>,
    /// When full, the app's log asks again at a later tick.
    pub pages: Outgoing<PageAsk>,
    /// When full, the cursor is kept later, at the latest when the binding ends.
    pub keeps: Outgoing<KeepAsk>,
}

impl Asks {
    /// Empty queues of `bound` items each.
    pub fn new(bound: usize) -> Self {
        Self {
            binds: Outgoing::new(bound),
            loads: Outgoing::new(bound),
            ups: Outgoing::new(bound),
            pages: Outgoing::new(bound),
            keeps: Outgoing::new(bound),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.binds.is_empty()
            && self.loads.is_empty()
            && self.ups.is_empty()
            && self.pages.is_empty()
            && self.keeps.is_empty()
    }
}
