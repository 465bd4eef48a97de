//! Bytes in: from the sockets, through what the line speaks, to the sessions.

use std::io::{self, Read as _};

use wire::{
    ServerDecoder,
    frame::{ClientFrame, CloseCode},
};

use super::{
    EventLoop,
    line::{Begun, Kind, Shield},
};
use crate::{clock::Now, exchange::ConnKey, session::Next};

/// Reads of one connection before others have their turn.
const READS: usize = 4;

/// What became of what came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It has been used up.
    All,
    /// From here on something else is spoken.
    Again,
    /// The connection is closing: nobody wants the rest.
    Stop,
}

impl EventLoop {
    /// Reads a connection; `to_end`: until the socket has nothing more, because no further event may come.
    pub(super) fn read(&mut self, conn: ConnKey, to_end: bool, now: Now) {
        if self.outbox.speaks(conn.slot).1 != Shield::Plain {
            return self.read_sealed(conn, to_end, now);
        }
        for _ in 0..READS {
            let Some(stream) = self.outbox.stream(conn.slot) else { return };
            let count = match stream.read(&mut self.buffer) {
                Ok(0) => return self.close(conn.slot, now),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(conn.slot, now),
            };
            let mut buffer = std::mem::take(&mut self.buffer);
            if self.sessions.on_bytes(conn.slot, count, now, &mut self.outbox) {
                self.take_in(conn.slot, &buffer[..count], now);
            }
            let is_full = count == buffer.len();
            if self.outbox.speaks(conn.slot).1 != Shield::Plain {
                // These were the first bytes of TLS.
                self.buffer = buffer;
                return self.read_sealed(conn, to_end || is_full, now);
            }
            std::mem::swap(&mut self.buffer, &mut buffer);
            // A short read has emptied the socket; whatever comes after it makes a new event.
            if !is_full && !to_end {
                return;
            }
        }
        self.unread.push(conn);
    }

    /// Takes in what a device sent, and bounds what is kept of it.
    pub(super) fn take_in(&mut self, slot: u32, input: &[u8], now: Now) {
        if self.outbox.is_finishing(slot) {
            return;
        }
        let before = self.outbox.held(slot);
        self.decode(slot, input, now);
        self.sessions.heard_all(slot, &mut self.outbox);
        self.bound_partial(slot, before, now);
        self.greet(slot);
    }

    /// Many connections that send the beginnings of frames and then wait could fill the memory together.
    pub(super) fn bound_partial(&mut self, slot: u32, before: usize, now: Now) {
        self.settle(slot, before);
        if self.outbox.held(slot) > before && self.partial > self.partial_bound {
            self.partial_shed += 1;
            let message = "too much has come in of frames without an end";
            self.sessions.close(slot, CloseCode::Busy, message, now, &mut self.outbox);
            self.forget_partial(slot);
        }
    }

    /// Counts what is kept now of one connection, of which so much was.
    pub(super) fn settle(&mut self, slot: u32, before: usize) {
        self.partial = self.partial + self.outbox.held(slot) - before;
    }

    fn decode(&mut self, slot: u32, mut input: &[u8], now: Now) {
        if self.keep_for_departure(slot, input) {
            return;
        }
        loop {
            let step = match self.outbox.speaks(slot).0 {
                Kind::Native => self.feed_native(slot, &mut input, now),
                Kind::Undecided => self.sniff(slot, input, now),
                Kind::Request => self.feed_request(slot, &mut input),
                Kind::Binary | Kind::Json => self.feed_messages(slot, &mut input, now),
            };
            match step {
                Step::Again if !input.is_empty() => {}
                Step::All | Step::Again => return,
                Step::Stop => {
                    self.keep_for_departure(slot, input);
                    return;
                }
            }
        }
    }

    fn feed_native(&mut self, slot: u32, input: &mut &[u8], now: Now) -> Step {
        let mut decoder = match self.outbox.take_begun(slot) {
            Some(Begun::Native(decoder)) => decoder,
            _ => ServerDecoder::after_preamble(self.max_frame),
        };
        loop {
            match decoder.decode(input) {
                Ok(Some(frame)) => {
                    self.sessions.expect(!input.is_empty());
                    match self.hear(slot, frame, now) {
                        Step::All => {}
                        other => return other,
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    if !decoder.has_preamble() {
                        self.entries.strangers.count(error.label());
                    }
                    let message = error.to_string();
                    self.sessions.close(slot, error.close_code(), &message, now, &mut self.outbox);
                    return Step::Stop;
                }
            }
        }
        if !decoder.is_at_rest() {
            self.outbox.keep_begun(slot, Begun::Native(decoder));
        }
        Step::All
    }

    /// A frame, whatever it came in.
    pub(super) fn hear(&mut self, slot: u32, frame: ClientFrame, now: Now) -> Step {
        match self.sessions.on_frame(slot, frame, now, &mut self.outbox) {
            Next::More => Step::All,
            Next::Stop => Step::Stop,
            Next::Move(moving) => {
                self.note_departure(slot, moving);
                Step::Stop
            }
        }
    }

    /// What has begun to come in will not be read to its end.
    pub(super) fn forget_partial(&mut self, slot: u32) {
        self.partial -= self.outbox.held(slot);
        self.outbox.take_begun(slot);
        self.partial += self.outbox.held(slot);
    }

    /// The socket is gone, or is to go.
    pub(super) fn close(&mut self, slot: u32, now: Now) {
        self.sessions.on_lost(slot, now);
        self.drop_line(slot);
    }

    /// Closes a connection's socket, if it has one.
    pub(super) fn drop_line(&mut self, slot: u32) {
        self.gate.leave(slot);
        self.count_left(slot);
        self.partial -= self.outbox.held(slot);
        self.outbox.remove(slot);
    }
}
