//! What passes between a thread of connections and the rest of the room.
//!
//! A thread *asks* (bind this, load that) and the tokio side *commands* (deliver, here is what you asked for).
//! Both ways go batches over bounded queues; who is full names what happens.

mod asks;
mod broadcasts;
mod commands;
mod given_up;

pub use asks::{AckAsk, Asks, BindAsk, EndAsk, Full, LoadAsk, Outgoing, PageAsk, UpAsk};
pub use broadcasts::{Body, Credit, Fate, KeepAnswer, KeepAsk, Latency, LogEntry, LogRun, Meant, Progress};
pub use commands::{
    BindAnswer, BindDone, BindRefusal, Delivery, DeliveryItem, DrainOrder, HeldSession, KickOrder, KickWhy,
    LoadAnswer, LoadDone, StoredMessage, UpAnswer,
};
pub use given_up::GivenUp;

use wire::id::ConnId;

/// Names a connection within its thread; a slot that is used again gets another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// Place in the thread's slab.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

impl ConnKey {
    /// The connection's name in the room, as the API and the logs show it: 26 bits of slot are 67 million connections
    /// a thread, 6 bits are 64 threads.
    pub fn id(self, thread: u8) -> ConnId {
        ConnId(u64::from(self.generation) << 32 | u64::from(thread & 63) << 26 | u64::from(self.slot))
    }
}

/// Names a binding within its thread; a slot that is used again gets another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BindingKey {
    /// Place in the thread's slab; also the number in the thread's bitmaps.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}
