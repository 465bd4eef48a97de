//! The room's ends of its sockets: each takes a window of bytes until the device has read, and what it does not take
//! waits within the bound, as in the room's own outbox.

use std::collections::VecDeque;

use bytes::Bytes;
use room::session::{Class, Outlet};

/// Bytes that may wait for a connection; a frame may be larger if nothing else waits.
pub(crate) const BOUND: usize = 600;
/// Answers and notices may have so many more.
pub(crate) const RESERVE: usize = 2_000;

#[derive(Debug, Default)]
pub(crate) struct Socket {
    pub(crate) open: bool,
    /// Has not been taken by the socket.
    pub(crate) waiting: VecDeque<u8>,
    /// Something was left over when the socket was written to.
    backlog: bool,
    refused: bool,
    pub(crate) finishing: bool,
    /// No byte follows: the device is to read the end.
    pub(crate) ended: bool,
    pub(crate) dead: bool,
    moved_ms: u64,
}

/// The sockets of one room, by slot.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    sockets: Vec<Socket>,
    pub(crate) now_ms: u64,
    pub(crate) dirty: Vec<u32>,
    pub(crate) drained: Vec<u32>,
    pub(crate) dead: Vec<u32>,
    /// Bytes of inbox pages that wait beside the bound.
    pub(crate) pages: usize,
}

impl Wires {
    pub(crate) fn insert(&mut self, slot: u32) {
        while self.sockets.len() <= slot as usize {
            self.sockets.push(Socket::default());
        }
        self.sockets[slot as usize] = Socket { open: true, ..Socket::default() };
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        self.sockets[slot as usize] = Socket::default();
    }

    pub(crate) fn socket(&mut self, slot: u32) -> &mut Socket {
        &mut self.sockets[slot as usize]
    }

    /// What the socket takes of what waits, given its free room; afterwards the rest is backlog.
    pub(crate) fn write(&mut self, slot: u32, room: usize) -> Vec<u8> {
        let now_ms = self.now_ms;
        let socket = self.socket(slot);
        if socket.dead || !socket.open {
            return Vec::new();
        }
        let count = room.min(socket.waiting.len());
        let taken: Vec<u8> = socket.waiting.drain(..count).collect();
        if socket.waiting.is_empty() {
            if std::mem::take(&mut socket.backlog) || socket.refused {
                socket.refused = false;
                self.drained.push(slot);
            }
            let socket = self.socket(slot);
            socket.ended |= socket.finishing;
        } else {
            if !socket.backlog || count > 0 {
                socket.moved_ms = now_ms;
            }
            socket.backlog = true;
        }
        taken
    }

    fn admit(&mut self, slot: u32, len: usize, class: Class) -> bool {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return false };
        if socket.dead || socket.finishing || !socket.open {
            return false;
        }
        let bound = match class {
            Class::Data => BOUND,
            Class::Control => BOUND + RESERVE,
            Class::Page => usize::MAX,
        };
        let pending = socket.waiting.len();
        if pending > 0 && pending + len > bound {
            socket.refused = true;
            if class == Class::Control {
                self.abort(slot);
            }
            return false;
        }
        if class == Class::Page {
            self.pages = self.pages.max(pending + len);
        } else {
            assert!(pending == 0 || pending + len <= BOUND + RESERVE, "the bound of what waits");
        }
        true
    }
}

impl Outlet for Wires {
    fn share(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        let taken = self.admit(slot, frame.len(), class);
        if taken {
            self.socket(slot).waiting.extend(frame);
            self.dirty.push(slot);
        }
        taken
    }

    fn write(&mut self, slot: u32, len: usize, class: Class, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let taken = self.admit(slot, len, class);
        if taken {
            let mut frame = Vec::new();
            encode(&mut frame);
            assert_eq!(frame.len(), len, "a frame is as long as was said");
            self.socket(slot).waiting.extend(frame);
            self.dirty.push(slot);
        }
        taken
    }

    fn is_busy(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_some_and(|socket| socket.backlog)
    }

    fn stalled_ms(&self, slot: u32, now_ms: u64) -> u64 {
        let socket = self.sockets.get(slot as usize).filter(|socket| socket.backlog);
        socket.map_or(0, |socket| now_ms - socket.moved_ms)
    }

    fn finish(&mut self, slot: u32) {
        self.socket(slot).finishing = true;
        self.dirty.push(slot);
    }

    fn abort(&mut self, slot: u32) {
        let socket = self.socket(slot);
        if !socket.dead {
            socket.dead = true;
            self.dead.push(slot);
        }
    }
}
