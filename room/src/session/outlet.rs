//! Where frames go: the seam between the sessions and the sockets.

use bytes::Bytes;

/// What may happen to a frame for which the connection has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Refused over the byte bound: whoever sends it has a cursor to catch up by.
    Data,
    /// Taken over the bound too: its size was bounded when it was asked for (one page of an inbox a binding).
    Page,
    /// Answers and notices. They have a reserve beyond the bound; a connection that has used that up as well is ended.
    Control,
}

/// Takes frames for connections. It never waits: what a socket does not take is kept within the byte bound.
pub trait Outlet {
    /// Takes a frame that many connections share. `false`: refused.
    fn share(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool;

    /// Takes a frame of `len` bytes that `encode` writes. `false`: refused, and `encode` was not called.
    fn write(&mut self, slot: u32, len: usize, class: Class, encode: impl FnOnce(&mut Vec<u8>)) -> bool;

    /// Whether bytes still wait for the socket; [`super::Sessions::on_drained`] follows when they no longer do.
    fn is_busy(&self, slot: u32) -> bool;

    /// For how long the socket has not taken a single byte of what waits, ms; 0 if nothing waits.
    fn stalled_ms(&self, slot: u32, now_ms: u64) -> u64;

    /// Ends the connection when what waits has been written; what comes in from now on is thrown away.
    fn finish(&mut self, slot: u32);

    /// Ends the connection at once; [`super::Sessions::on_closed`] follows.
    fn abort(&mut self, slot: u32);
}
