//! Taking frames: counting them against the bounds, and staging them.

use bytes::Bytes;

use super::{Bits, NONE, Outbox, Piece};
use crate::{
    event_loop::line::Kind,
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
        let bound = match class {
            Class::Data => self.bounds.connection,
            Class::Control => self.bounds.connection + self.bounds.reserve,
            Class::Page => usize::MAX,
        };
        if pending > 0 && pending + len > bound {
            socket.refused = true;
            if class == Class::Control {
                self.shed += 1;
                self.kill(slot);
            }
            return false;
        }
        socket.pending = socket.pending.saturating_add(len as u32);
        true
    }

    pub(super) fn stage(&mut self, slot: u32, bits: Bits) {
        let index = self.pieces.len() as u32;
        let socket = &mut self.sockets[slot as usize];
        if socket.first == NONE {
            socket.first = index;
            self.dirty.push(slot);
        } else {
            let last = &mut self.pieces[socket.last as usize];
            // Frames built one after the other for the same connection are one slice.
            if let (Bits::Built { end, .. }, Bits::Built { start, end: new_end }) = (&mut last.bits, &bits)
                && *end == *start
            {
                *end = *new_end;
                return;
            }
            last.next = index;
        }
        socket.last = index;
        self.pieces.push(Piece { bits, next: NONE });
    }

    pub(super) fn extend_backlog(&mut self, slot: u32, bytes: Bytes) -> bool {
        let luggage = self.sockets.get_mut(slot as usize).and_then(|socket| socket.luggage.as_mut());
        let Some(backlog) = luggage.and_then(|luggage| luggage.backlog.as_mut()) else { return false };
        self.waiting += bytes.len();
        backlog.push(bytes);
        self.bound_waiting(slot);
        true
    }

    pub(super) fn has_backlog(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_some_and(|socket| socket.backlog().is_some())
    }

    /// Takes bytes that many connections share, as they are.
    pub(super) fn shared(&mut self, slot: u32, bytes: &Bytes, class: Class) -> bool {
        if !self.admit(slot, bytes.len(), class) {
            return false;
        }
        if self.has_backlog(slot) {
            return self.extend_backlog(slot, bytes.clone());
        }
        self.stage(slot, Bits::Shared(bytes.clone()));
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
        if self.has_backlog(slot) {
            let mut bytes = Vec::with_capacity(len);
            encode(&mut bytes);
            return self.extend_backlog(slot, bytes.into());
        }
        let start = self.scratch.len() as u32;
        encode(&mut self.scratch);
        self.stage(slot, Bits::Built { start, end: self.scratch.len() as u32 });
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

    fn is_busy(&self, slot: u32) -> bool {
        self.has_backlog(slot)
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
