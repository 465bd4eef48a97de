//! Accepting: a connection gets its place, or is refused.

#[cfg(test)]
mod tests;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use mio::{Interest, net::TcpStream};

use super::{EventLoop, listener::Accepted, moving::token};
use crate::{
    admission::{Admission, Reason, Ticket},
    clock::Now,
};

/// Connections accepted before those that exist have their turn.
const ACCEPTS: usize = 64;

impl EventLoop {
    /// Lets in who the room's admission lets in, which all its threads share.
    #[must_use]
    pub fn admitting(mut self, admission: Arc<Admission>) -> Self {
        self.gate.admission = admission;
        self
    }

    /// Takes in who waits at the port, as many as a turn may.
    pub(super) fn accept(&mut self, now: Now) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listener.as_mut().filter(|listener| listener.is_ready(now.ms)) else {
                return;
            };
            match listener.accept(now.ms) {
                Accepted::Stream(stream, peer) => self.welcome(stream, peer, now),
                Accepted::Surplus(stream) => {
                    self.gate.exhausted(now.ms);
                    self.refuse(stream, Reason::NoFiles);
                }
                Accepted::Nobody => return,
                Accepted::Exhausted => return self.gate.exhausted(now.ms),
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr, now: Now) {
        match self.gate.enter(peer.ip()) {
            Err(reason) => self.refuse(stream, reason),
            Ok(ticket) => {
                if let Err((stream, reason)) = self.seat(stream, ticket, now) {
                    self.gate.give_back(ticket);
                    self.refuse(stream, reason);
                }
            }
        }
    }

    /// Gives a connection its place; and back if there is none.
    fn seat(&mut self, mut stream: TcpStream, ticket: Ticket, now: Now) -> Result<(), (TcpStream, Reason)> {
        let Some(conn) = self.sessions.open(now) else {
            let reason = if self.sessions.is_draining() { Reason::Draining } else { Reason::Full };
            return Err((stream, reason));
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token(conn), both) {
            tracing::warn!(%error, "cannot watch a connection");
            self.sessions.on_closed(conn.slot);
            return Err((stream, Reason::NoFiles));
        }
        self.outbox.insert(conn.slot, stream);
        self.gate.put(conn.slot, ticket);
        Ok(())
    }

    /// Says why, as far as the socket takes it at once, and closes.
    ///
    /// What has come already is read, once: it tells what the device speaks, and closing a socket with unread bytes would
    /// take the words away from under it.
    fn refuse(&mut self, mut stream: TcpStream, reason: Reason) {
        self.sessions.count_refused(reason);
        let spoken = stream.read(&mut self.buffer).unwrap_or_default();
        let dice = self.gate.roll();
        let rules = self.gate.admission.rules();
        let words = rules.words.answer(reason, &self.buffer[..spoken], dice);
        if !words.is_empty() {
            // Who does not take a hundred bytes goes without.
            let _ = stream.write(words);
        }
    }

    /// Frames have come from a connection: perhaps its handshake is through.
    pub(super) fn greet(&mut self, slot: u32) {
        if self.gate.is_greeting(slot) && !self.sessions.is_greeting(slot) {
            self.gate.greeted(slot);
        }
    }
}
