//! Writing what was staged, and what a socket refused once it has room.

use std::io::{self, IoSlice, Write as _};

use mio::net::TcpStream;

use super::{NONE, Outbox, Piece};
use crate::event_loop::line::Shield;

/// Slices of one `writev`. The kernel takes 1,024; more than 64 frames for one connection in one turn are rare.
const MAX_SLICES: usize = 64;

/// Writes a chain of pieces, of the first without the bytes that have been written.
fn write_many(
    stream: &mut TcpStream,
    (pieces, scratch): (&[Piece], &[u8]),
    (first, skip): (u32, usize),
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let (mut count, mut next) = (0, first);
    while next != NONE && count < MAX_SLICES {
        let piece = &pieces[next as usize];
        let from = if count == 0 { skip } else { 0 };
        slices[count] = IoSlice::new(&piece.bytes(scratch)[from..]);
        count += 1;
        next = piece.next;
    }
    stream.write_vectored(&slices[..count])
}

impl Outbox {
    /// Writes what was staged.
    pub(crate) fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for slot in &dirty {
            self.flush_one(*slot);
        }
        self.pieces.clear();
        self.scratch.clear();
        // Keep the list's buffer.
        self.dirty = dirty;
        self.dirty.clear();
    }

    /// Writes what was staged for one connection.
    pub(super) fn flush_one(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        let mut at = std::mem::replace(&mut socket.first, NONE);
        socket.last = NONE;
        if at == NONE {
            return;
        }
        if socket.shield != Shield::Plain {
            return self.flush_sealed(slot, at);
        }
        let Some(stream) = socket.stream.as_mut().filter(|_| !socket.dead) else { return };
        // Bytes of the first piece that have been written.
        let mut skip = 0;
        while at != NONE {
            let piece = &self.pieces[at as usize];
            let written = if piece.next == NONE {
                // The usual case needs no list of slices.
                stream.write(&piece.bytes(&self.scratch)[skip..])
            } else {
                write_many(stream, (&self.pieces, &self.scratch), (at, skip))
            };
            self.writes += 1;
            match written {
                Ok(mut written) if written > 0 => {
                    self.bytes += written as u64;
                    socket.pending = socket.pending.saturating_sub(written as u32);
                    while written > 0 && at != NONE {
                        let piece = &self.pieces[at as usize];
                        let left = piece.bytes(&self.scratch).len() - skip;
                        if written < left {
                            skip += written;
                            written = 0;
                        } else {
                            written -= left;
                            (at, skip) = (piece.next, 0);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.keep(slot, at, skip),
                _ => return self.kill(slot),
            }
        }
        self.written(slot);
    }

    /// Ends who has made too much wait.
    pub(super) fn bound_waiting(&mut self, slot: u32) {
        if self.waiting > self.bounds.thread {
            self.shed += 1;
            self.kill(slot);
        }
    }

    /// The socket has room: writes of the backlog what it takes.
    pub(crate) fn on_writable(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead) else { return };
        if socket.shield != Shield::Plain {
            return self.on_writable_sealed(slot);
        }
        let (Some(stream), Some(luggage)) = (&mut socket.stream, &mut socket.luggage) else { return };
        let Some(backlog) = &mut luggage.backlog else { return };
        let had_unicasts = backlog.has_unicasts();
        loop {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = backlog.slices(&mut slices);
            let written = stream.write_vectored(&slices[..count]);
            self.writes += 1;
            match written {
                Ok(written) if written > 0 => {
                    backlog.advance(written, self.now_ms);
                    self.bytes += written as u64;
                    self.waiting -= written;
                    socket.pending = socket.pending.saturating_sub(written as u32);
                    if backlog.is_empty() {
                        return self.emptied(slot);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Inboxes go on before the broadcasts have been written.
                    if had_unicasts && !backlog.has_unicasts() {
                        self.drained.push(slot);
                    }
                    return;
                }
                _ => return self.kill(slot),
            }
        }
    }

    /// The backlog has been written to the end.
    pub(super) fn emptied(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.luggage().backlog = None;
            socket.unburden();
            socket.refused = true;
        }
        self.written(slot);
    }

    /// Nothing waits any more.
    pub(super) fn written(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        if std::mem::take(&mut socket.refused) {
            self.drained.push(slot);
        }
        if socket.finishing {
            self.end_writing(slot);
        }
    }

    /// The device reads the last words and then the end.
    pub(super) fn end_writing(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        let Some(stream) = &mut socket.stream else { return };
        if socket.shield == Shield::Sealed
            && let Some(tls) = socket.luggage.as_mut().and_then(|luggage| luggage.tls.as_mut())
        {
            self.sealed.clear();
            tls.say_goodbye(&mut self.sealed);
            // A socket that has no room for it is closed without; the words before it said all.
            let _ = stream.write(&self.sealed);
        }
        // An error only means that it has gone already.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}
