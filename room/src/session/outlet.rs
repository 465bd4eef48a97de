//! Where frames go: the seam between the sessions and the sockets.

use bytes::Bytes;
use wire::{
    codec::{push_into, push_len},
    frame::Push,
};

/// What a frame is to the queue of its connection: whom it may pass there, and what becomes of it when there is no place.
///
/// Unicasts and broadcasts are numbered apart from each other, so either may pass the other. A queue holds, in this order, what
/// has been put in a fixed order, urgent unicasts, all other unicasts and answers, broadcasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A broadcast, or its recall. Refused over its part of the byte bound: whoever sends it has a cursor to catch up by.
    Data,
    /// A message to one user, before all broadcasts. Refused over the byte bound; it waits in its inbox.
    Unicast,
    /// Before other bindings' unicasts as well. It brings along what of its own inbox waits before it.
    Urgent,
    /// A unicast that is taken over the bound too: its size was bounded when it was asked for (one page of an inbox a binding).
    Page,
    /// Answers and notices, before all broadcasts. They have a reserve beyond the bound; a connection that has used that up as
    /// well is ended.
    Control,
    /// The same, for what changes the meaning of what follows: nothing that waits may come after it, nor anything that comes
    /// later before it.
    Barrier,
}

impl Class {
    /// Whether it is an answer or a notice.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Control | Self::Barrier)
    }
}

/// Takes frames for connections. It never waits: what a socket does not take is kept within the byte bound.
pub trait Outlet {
    /// Takes a frame that many connections share. `false`: refused.
    fn share(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool;

    /// Takes a frame of `len` bytes that `encode` writes. `false`: refused, and `encode` was not called.
    fn write(&mut self, slot: u32, len: usize, class: Class, encode: impl FnOnce(&mut Vec<u8>)) -> bool;

    /// Takes a message for one user. One that waits and that it replaces ([`Push::collapse_key`], the same binding) may be taken
    /// out; the numbers that are told stay without holes. `false`: refused.
    fn push(&mut self, slot: u32, push: &Push, class: Class) -> bool {
        self.write(slot, push_len(push), class, |buffer| push_into(push, buffer))
    }

    /// Whether answers or unicasts still wait for the socket; [`super::Sessions::on_drained`] follows when they no longer do.
    fn is_busy(&self, slot: u32) -> bool;

    /// For how long the socket has not taken a single byte of what waits, ms; 0 if nothing waits.
    fn stalled_ms(&self, slot: u32, now_ms: u64) -> u64;

    /// Ends the connection when what waits has been written; what comes in from now on is thrown away.
    fn finish(&mut self, slot: u32);

    /// Ends the connection at once; [`super::Sessions::on_closed`] follows.
    fn abort(&mut self, slot: u32);
}
