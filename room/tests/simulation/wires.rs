//! The room's ends of its sockets: each takes a window of bytes until the device has read, and what it does not take
//! waits within the bound, as in the room's own outbox.

use std::collections::VecDeque;

use bytes::Bytes;
use room::session::{Class, Outlet};
use wire::{
    codec::{push_into, push_len},
    frame::Push,
};

/// Bytes that may wait for a connection; a frame may be larger if nothing else waits.
pub(crate) const BOUND: usize = 600;
/// Answers and notices may have so many more.
pub(crate) const RESERVE: usize = 2_000;

#[derive(Debug, Default)]
pub(crate) struct Socket {
    pub(crate) open: bool,
    /// Has not been taken by the socket.
    waiting: Waiting,
    /// Something was left over when the socket was written to.
    backlog: bool,
    refused: bool,
    pub(crate) finishing: bool,
    /// No byte follows: the device is to read the end.
    pub(crate) ended: bool,
    pub(crate) dead: bool,
    moved_ms: u64,
}

/// Frames in the order of their classes.
#[derive(Debug, Default)]
struct Waiting {
    /// What has been begun or put in order.
    front: VecDeque<u8>,
    /// Urgent messages, others and answers, broadcasts; with the binding of messages.
    lanes: [VecDeque<(Option<u32>, Vec<u8>)>; 3],
    len: usize,
}

impl Waiting {
    fn push(&mut self, class: Class, binding: Option<u32>, frame: Vec<u8>) {
        self.len += frame.len();
        let [urgent, unicast, broadcast] = &mut self.lanes;
        match class {
            Class::Data => broadcast.push_back((None, frame)),
            Class::Unicast | Class::Page | Class::Control => unicast.push_back((binding, frame)),
            Class::Urgent => {
                let (own, others) = unicast.drain(..).partition(|(of, _)| *of == binding);
                *unicast = others;
                urgent.extend::<VecDeque<_>>(own);
                urgent.push_back((binding, frame));
            }
            Class::Barrier => {
                let all = self.lanes.iter_mut().flat_map(|lane| lane.drain(..));
                self.front.extend(all.flat_map(|(_, frame)| frame));
                self.front.extend(frame);
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.front.len() < count
            && let Some((_, frame)) = self.lanes.iter_mut().find_map(VecDeque::pop_front)
        {
            self.front.extend(frame);
        }
        let taken: Vec<u8> = self.front.drain(..count.min(self.front.len())).collect();
        self.len -= taken.len();
        taken
    }

    /// Whether more than broadcasts waits that have not been begun.
    fn has_unicasts(&self) -> bool {
        !self.lanes[0].is_empty() || !self.lanes[1].is_empty()
    }
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
        let had_unicasts = socket.backlog && socket.waiting.has_unicasts();
        let taken = socket.waiting.take(room);
        let count = taken.len();
        if socket.waiting.len == 0 {
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
            if had_unicasts && !socket.waiting.has_unicasts() {
                self.drained.push(slot);
            }
        }
        taken
    }

    fn admit(&mut self, slot: u32, len: usize, class: Class) -> bool {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return false };
        if socket.dead || socket.finishing || !socket.open {
            return false;
        }
        let bound = match class {
            Class::Data => BOUND - BOUND / 4,
            Class::Unicast => BOUND,
            Class::Urgent => BOUND + RESERVE / 2,
            Class::Control | Class::Barrier => BOUND + RESERVE,
            Class::Page => usize::MAX,
        };
        let pending = socket.waiting.len;
        if pending > 0 && pending + len > bound {
            socket.refused = true;
            if class.is_control() {
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
            self.socket(slot).waiting.push(class, None, frame.to_vec());
            self.dirty.push(slot);
        }
        taken
    }

    fn push(&mut self, slot: u32, push: &Push, class: Class) -> bool {
        let taken = self.admit(slot, push_len(push), class);
        if taken {
            let mut frame = Vec::new();
            push_into(push, &mut frame);
            self.socket(slot).waiting.push(class, Some(push.binding), frame);
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
            self.socket(slot).waiting.push(class, None, frame);
            self.dirty.push(slot);
        }
        taken
    }

    fn is_busy(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_some_and(|socket| socket.backlog && socket.waiting.has_unicasts())
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
