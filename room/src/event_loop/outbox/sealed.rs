//! Writing to lines with TLS. What waits for a slow reader stays as it is, shared bytes shared; only the record that the socket
//! has not taken whole is kept sealed.

use std::io::{self, Write as _};

use super::{NONE, Outbox};
use crate::event_loop::{backlog::Backlog, tls::RECORD};

impl Outbox {
    /// Seals and writes what was staged for one connection, from a piece on.
    pub(super) fn flush_sealed(&mut self, slot: u32, mut at: u32) {
        let Some(socket) = self.sockets.get(slot as usize).filter(|socket| !socket.dead) else { return };
        if socket.backlog().is_some() {
            return self.keep(slot, at, 0);
        }
        // Bytes of the first piece that have been sealed.
        let mut skip = 0;
        while at != NONE {
            self.plain.clear();
            while at != NONE && self.plain.len() < RECORD {
                let piece = &self.pieces[at as usize];
                let bytes = &piece.bytes(&self.scratch)[skip..];
                let count = bytes.len().min(RECORD - self.plain.len());
                self.plain.extend_from_slice(&bytes[..count]);
                (at, skip) = if count == bytes.len() { (piece.next, 0) } else { (at, skip + count) };
            }
            if !self.seal(slot) {
                return self.kill(slot);
            }
            match self.write_sealed(slot) {
                Ok(true) => {}
                Ok(false) => return self.keep(slot, at, skip),
                Err(_) => return self.kill(slot),
            }
        }
        self.written(slot);
    }

    /// Seals `plain` into `sealed`: it waits no more.
    fn seal(&mut self, slot: u32) -> bool {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return false };
        let Some(tls) = socket.luggage.as_mut().and_then(|luggage| luggage.tls.as_mut()) else {
            return false;
        };
        socket.pending = socket.pending.saturating_sub(self.plain.len() as u32);
        self.sealed.clear();
        tls.seal(&self.plain, &mut self.sealed)
    }

    /// Writes `sealed`; what the socket refuses waits. Whether it took all.
    fn write_sealed(&mut self, slot: u32) -> io::Result<bool> {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return Ok(false) };
        let Some(stream) = &mut socket.stream else { return Ok(false) };
        let mut rest = &self.sealed[..];
        while !rest.is_empty() {
            self.writes += 1;
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.bytes += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if rest.is_empty() {
            return Ok(true);
        }
        let now_ms = self.now_ms;
        let backlog = socket.luggage().backlog.get_or_insert_with(|| Box::new(Backlog::new(now_ms)));
        backlog.push_sealed(rest);
        socket.pending = socket.pending.saturating_add(rest.len() as u32);
        self.waiting += rest.len();
        Ok(false)
    }

    /// Sends what TLS itself has to say, which lies in `sealed`. It goes before what waits, none of which is sealed yet.
    pub(crate) fn send_sealed(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead) else { return };
        if let Some(backlog) = socket.luggage().backlog.as_mut().filter(|backlog| backlog.has_sealed()) {
            backlog.push_sealed(&self.sealed);
            socket.pending = socket.pending.saturating_add(self.sealed.len() as u32);
            self.waiting += self.sealed.len();
        } else if self.write_sealed(slot).is_err() {
            return self.kill(slot);
        }
        self.bound_waiting(slot);
    }

    /// The socket has room: first for what is sealed, then for record after record.
    pub(super) fn on_writable_sealed(&mut self, slot: u32) {
        loop {
            let Some(socket) = self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead) else {
                return;
            };
            let (Some(stream), Some(luggage)) = (&mut socket.stream, &mut socket.luggage) else { return };
            let Some(backlog) = &mut luggage.backlog else { return };
            while backlog.has_sealed() {
                self.writes += 1;
                match stream.write(backlog.sealed()) {
                    Ok(written) if written > 0 => {
                        backlog.advance_sealed(written, self.now_ms);
                        self.bytes += written as u64;
                        self.waiting -= written;
                        socket.pending = socket.pending.saturating_sub(written as u32);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    _ => return self.kill(slot),
                }
            }
            if backlog.is_empty() {
                return self.emptied(slot);
            }
            self.plain.clear();
            let had_unicasts = backlog.has_unicasts();
            backlog.take(RECORD, &mut self.plain, self.now_ms);
            if had_unicasts && !backlog.has_unicasts() && !backlog.is_empty() {
                // Inboxes go on before the broadcasts have been written.
                self.drained.push(slot);
            }
            self.waiting -= self.plain.len();
            if !self.seal(slot) || self.write_sealed(slot).is_err() {
                return self.kill(slot);
            }
        }
    }
}
