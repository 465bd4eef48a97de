//! Reading lines with TLS.

use std::io::{self, Read as _};

use rustls::{Error, HandshakeKind};

use super::{EventLoop, line::Shield};
use crate::{clock::Now, exchange::ConnKey, session::Outlet as _};

/// Reads of one connection before others have their turn.
const READS: usize = 4;
/// Handshakes that go on in one turn. A full one takes 0.2 ms (ECDSA) to 1 ms (RSA), and what else the thread does is
/// not to wait for more than 10.
const HANDSHAKES: usize = 8;

/// Why a handshake failed, by label.
fn failure(error: &Error) -> &'static str {
    match error {
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "not_tls",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "incompatible",
        Error::AlertReceived(_) => "refused_by_device",
        _ => "other",
    }
}

impl EventLoop {
    /// Reads a connection with TLS; `to_end`: until the socket has nothing more, because no further event may come.
    pub(super) fn read_sealed(&mut self, conn: ConnKey, to_end: bool, now: Now) {
        let slot = conn.slot;
        if self.outbox.speaks(slot).1 == Shield::Shaking {
            if self.handshakes_left == 0 {
                if self.outbox.queue(slot) {
                    self.shaking.push_back(conn);
                }
                return;
            }
            self.handshakes_left -= 1;
        }
        for _ in 0..READS {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.read_records(slot, &mut buffer, now);
            let room = buffer.len();
            self.buffer = buffer;
            match read {
                Read::Nothing | Read::Over => return,
                // A short read has emptied the socket; whatever comes after it makes a new event.
                Read::Some(count) if count < room && !to_end => return,
                Read::Some(_) => {}
            }
        }
        self.unread.push(conn);
    }

    /// Reads once, behind what is kept.
    fn read_records(&mut self, slot: u32, buffer: &mut [u8], now: Now) -> Read {
        let before = self.outbox.held(slot);
        let Some((tls, _)) = self.outbox.tls(slot) else { return Read::Over };
        let unseen = tls.has_unseen();
        let Some(kept) = tls.take_partial(buffer) else {
            self.settle(slot, before);
            self.close(slot, now);
            return Read::Over;
        };
        let Some(stream) = self.outbox.stream(slot) else { return Read::Over };
        let read = loop {
            match stream.read(&mut buffer[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && unseen => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some((tls, _)) = self.outbox.tls(slot) {
                    tls.put_back(&buffer[..kept]);
                }
                self.settle(slot, before);
                return Read::Nothing;
            }
            _ => {
                self.settle(slot, before);
                self.close(slot, now);
                return Read::Over;
            }
        };
        if !self.sessions.on_bytes(slot, count, now, &mut self.outbox) {
            self.settle(slot, before);
            return Read::Over;
        }
        self.open(slot, &mut buffer[..kept + count], before, now);
        if self.outbox.speaks(slot).1 == Shield::Plain { Read::Over } else { Read::Some(kept + count) }
    }

    /// Opens records and takes in what they hold.
    fn open(&mut self, slot: u32, records: &mut [u8], before: usize, now: Now) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some((tls, sealed)) = self.outbox.tls(slot) else { return };
        let opened = tls.open(records, &mut plain, sealed);
        let has_words = !sealed.is_empty();
        if has_words {
            self.outbox.send_sealed(slot);
        }
        self.bound_partial(slot, before, now);
        match opened {
            Ok(opened) => {
                if let Some(kind) = opened.shaken {
                    self.outbox.sealed(slot);
                    self.entries.handshakes.count(match kind {
                        HandshakeKind::Resumed => "resumed",
                        HandshakeKind::Full => "full",
                        HandshakeKind::FullWithHelloRetryRequest => "full_retried",
                    });
                }
                if !plain.is_empty() {
                    self.take_in(slot, &plain, now);
                }
                if opened.over {
                    self.close(slot, now);
                }
            }
            Err(error) => {
                tracing::debug!(%error, slot, "TLS broke");
                if self.outbox.speaks(slot).1 == Shield::Shaking {
                    self.entries.handshakes.count(failure(&error));
                    // It is counted; that it leaves is no other failure.
                    self.outbox.sealed(slot);
                }
                self.outbox.abort(slot);
            }
        }
        self.plain = plain;
    }

    /// Goes on with the handshakes whose turn it is.
    pub(super) fn shake(&mut self, now: Now) {
        self.handshakes_left = HANDSHAKES;
        for _ in 0..self.shaking.len().min(HANDSHAKES) {
            let Some(conn) = self.shaking.pop_front() else { return };
            if self.sessions.generation(conn.slot) == Some(conn.generation) {
                self.outbox.unqueue(conn.slot);
                self.read_sealed(conn, true, now);
            }
        }
    }

    /// A line is closed; was it in its handshake?
    pub(super) fn count_left(&mut self, slot: u32) {
        if self.outbox.speaks(slot).1 == Shield::Shaking {
            self.entries.handshakes.count("left");
        }
    }
}

/// What a read came to.
enum Read {
    Nothing,
    /// Bytes in the buffer.
    Some(usize),
    /// The line is gone, or will be.
    Over,
}
