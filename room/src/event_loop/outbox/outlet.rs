//! Taking frames: counting them against the bounds, and staging them.

use bytes::Bytes;
use wire::{
    codec::{push_into, push_len},
    frame::Push,
};

use super::{Bits, Bounds, NONE, Outbox, Piece};
use crate::{
    event_loop::{
        backlog::{Backlog, Mark},
        line::Kind,
    },
    session::{Class, Outlet},
};

/// Staged bytes at which a turn is flushed early, so that a burst does not grow the staging area.
const STAGE_BYTES: usize = 1 << 20;

impl Outbox {
    /// Whether the connection takes a frame of this length; if so it is counted.
    pub(super) fn admit(&mut self, slot: u32, len: usize, class: Class) -> bool {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return false };
        if socket.dead || socket.finishing || socket.stream.is_none() {
            return false;
        }
        let pending = socket.pending as usize;
        let Bounds { connection, reserve, .. } = self.bounds;
        let bound = match class {
            Class::Data => connection - connection / 4,
            Class::Unicast => connection,
            Class::Urgent => connection + reserve / 2,
            Class::Control | Class::Barrier => connection + reserve,
            Class::Page => usize::MAX,
        };
        if pending > 0 && pending + len > bound {
            socket.refused = true;
            if class.is_control() {
                self.shed += 1;
                self.kill(slot);
            }
            return false;
        }
        socket.pending = socket.pending.saturating_add(len as u32);
        true
    }

    pub(super) fn stage(&mut self, slot: u32, bits: Bits, class: Class) {
        self.stage_part(slot, bits, class, false);
    }

    /// Stages a piece, which may belong to the frame of the one before.
    pub(super) fn stage_part(&mut self, slot: u32, bits: Bits, class: Class, goes_on: bool) {
        let index = self.pieces.len() as u32;
        let socket = &mut self.sockets[slot as usize];
        if socket.first == NONE {
            socket.first = index;
            self.dirty.push(slot);
        } else {
            let last = &mut self.pieces[socket.last as usize];
            // Frames built one after the other for the same connection are one slice, if they are of a kind.
            if last.class == class
                && class != Class::Barrier
                && let (Bits::Built { end, .. }, Bits::Built { start, end: new_end }) =
                    (&mut last.bits, &bits)
                && *end == *start
            {
                *end = *new_end;
                return;
            }
            last.next = index;
        }
        socket.last = index;
        self.pieces.push(Piece { bits, next: NONE, class, goes_on });
    }

    /// Takes bytes that many connections share, as they are.
    pub(super) fn shared(&mut self, slot: u32, bytes: &Bytes, class: Class) -> bool {
        if !self.admit(slot, bytes.len(), class) {
            return false;
        }
        if self.queues(slot) {
            return self.enqueue(slot, class, Mark::Answer, [bytes.clone()]);
        }
        self.stage(slot, Bits::Shared(bytes.clone()), class);
        true
    }

    /// Takes `len` bytes that `encode` writes, as they are.
    pub(super) fn built(
        &mut self,
        slot: u32,
        len: usize,
        class: Class,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if !self.admit(slot, len, class) {
            return false;
        }
        if self.queues(slot) {
            let mut bytes = Vec::with_capacity(len);
            encode(&mut bytes);
            return self.enqueue(slot, class, Mark::Answer, [bytes.into()]);
        }
        let start = self.scratch.len() as u32;
        encode(&mut self.scratch);
        self.stage(slot, Bits::Built { start, end: self.scratch.len() as u32 }, class);
        if self.scratch.len() > STAGE_BYTES {
            self.flush();
        }
        true
    }

    /// Whether frames leave as they are. One byte of what is looked at in any case.
    fn is_native(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_none_or(|socket| socket.kind == Kind::Native)
    }
}

impl Outlet for Outbox {
    fn share(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        if self.is_native(slot) {
            self.shared(slot, frame, class)
        } else {
            self.share_message(slot, frame, class)
        }
    }

    fn write(&mut self, slot: u32, len: usize, class: Class, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.is_native(slot) {
            self.built(slot, len, class, encode)
        } else {
            self.write_message(slot, len, class, encode)
        }
    }

    fn push(&mut self, slot: u32, push: &Push, class: Class) -> bool {
        if self.queues(slot) {
            self.push_behind(slot, push, class)
        } else {
            self.write(slot, push_len(push), class, |buffer| push_into(push, buffer))
        }
    }

    fn is_busy(&self, slot: u32) -> bool {
        let backlog = self.sockets.get(slot as usize).and_then(|socket| socket.backlog());
        backlog.is_some_and(Backlog::has_unicasts)
    }

    fn stalled_ms(&self, slot: u32, now_ms: u64) -> u64 {
        let backlog = self.sockets.get(slot as usize).and_then(|socket| socket.backlog());
        backlog.map_or(0, |backlog| now_ms.saturating_sub(backlog.moved_ms()))
    }

    fn finish(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        socket.finishing = true;
        if socket.first == NONE && socket.backlog().is_none() {
            self.written(slot);
        }
    }

    fn abort(&mut self, slot: u32) {
        self.kill(slot);
    }
}
