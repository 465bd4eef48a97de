//! What the sockets' way in keeps with them: what a line speaks, and what of it has begun.

use mio::net::TcpStream;

use super::{Outbox, Socket};
use crate::{
    event_loop::{
        line::{Begun, Kind, Line, Shield, transport},
        tls::Tls,
    },
    session::Class,
};

impl Outbox {
    pub(crate) fn stream(&mut self, slot: u32) -> Option<&mut TcpStream> {
        self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead)?.stream.as_mut()
    }

    /// What is spoken, and whether it is sealed.
    pub(in crate::event_loop) fn speaks(&self, slot: u32) -> (Kind, Shield) {
        self.sockets
            .get(slot as usize)
            .map_or((Kind::Undecided, Shield::Plain), |socket| (socket.kind, socket.shield))
    }

    /// It is known what is spoken.
    pub(in crate::event_loop) fn decide(&mut self, slot: u32, kind: Kind) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        socket.kind = kind;
        if let Some(transport) = transport(kind, socket.shield) {
            self.lines.present[transport] += 1;
            self.lines.opened[transport] += 1;
        }
    }

    /// The line is to be TLS; the handshake begins.
    pub(in crate::event_loop) fn shield(&mut self, slot: u32, tls: Tls) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.shield = Shield::Shaking;
            socket.luggage().tls = Some(Box::new(tls));
        }
    }

    /// The handshake is through.
    pub(in crate::event_loop) fn sealed(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.shield = Shield::Sealed;
        }
    }

    /// TLS of a line, with the buffer for what it has to say.
    pub(in crate::event_loop) fn tls(&mut self, slot: u32) -> Option<(&mut Tls, &mut Vec<u8>)> {
        let socket = self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead)?;
        let tls = socket.luggage.as_mut()?.tls.as_mut()?;
        self.sealed.clear();
        Some((tls, &mut self.sealed))
    }

    /// Bytes kept of what has not come in whole.
    pub(in crate::event_loop) fn held(&self, slot: u32) -> usize {
        let socket = self.sockets.get(slot as usize);
        socket.and_then(|socket| socket.luggage.as_ref()).map_or(0, |luggage| luggage.held())
    }

    pub(in crate::event_loop) fn take_begun(&mut self, slot: u32) -> Option<Begun> {
        let socket = self.sockets.get_mut(slot as usize)?;
        let begun = socket.luggage.as_mut()?.begun.take();
        socket.unburden();
        begun
    }

    pub(in crate::event_loop) fn keep_begun(&mut self, slot: u32, begun: Begun) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.luggage().begun = Some(begun);
        }
    }

    /// Marks a connection as waiting for its turn; `false`: it does already.
    pub(in crate::event_loop) fn queue(&mut self, slot: u32) -> bool {
        let socket = self.sockets.get_mut(slot as usize);
        socket.is_some_and(|socket| !std::mem::replace(&mut socket.queued, true))
    }

    /// Its turn has come.
    pub(in crate::event_loop) fn unqueue(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.queued = false;
        }
    }

    /// Whether what comes in is to be thrown away.
    pub(crate) fn is_finishing(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_none_or(|socket| socket.finishing || socket.dead)
    }

    /// Sends bytes of the transport itself; `false`: refused.
    pub(in crate::event_loop) fn say(&mut self, slot: u32, bytes: &[u8], class: Class) -> bool {
        self.built(slot, bytes.len(), class, |buffer| buffer.extend_from_slice(bytes))
    }

    /// Last words, and the end: whoever hears them has nothing to add.
    pub(in crate::event_loop) fn farewell(&mut self, slot: u32, bytes: &[u8]) {
        self.say(slot, bytes, Class::Barrier);
        self.flush_one(slot);
        self.end_writing(slot);
        self.kill(slot);
    }

    /// Takes a line out of its slot, which is empty then; what was staged for it has been written, or goes along.
    pub(in crate::event_loop) fn take_line(&mut self, slot: u32) -> Option<Line> {
        self.flush_one(slot);
        let socket =
            self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead && !socket.finishing)?;
        let Socket { stream, pending, luggage, kind, shield, .. } =
            std::mem::replace(socket, Socket::empty());
        let line = Line { stream: stream?, kind, shield, pending, pass: None, luggage };
        self.waiting -= waiting(&line);
        if let Some(transport) = transport(kind, shield) {
            self.lines.present[transport] -= 1;
        }
        Some(line)
    }

    /// Gives a slot a line that was another's.
    pub(in crate::event_loop) fn put_line(&mut self, slot: u32, line: Line) {
        self.waiting += waiting(&line);
        let Line { stream, kind, shield, pending, luggage, .. } = line;
        if let Some(transport) = transport(kind, shield) {
            self.lines.present[transport] += 1;
        }
        self.insert(slot, stream);
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            *socket =
                Socket { stream: socket.stream.take(), pending, luggage, kind, shield, ..Socket::empty() };
        }
        self.bound_waiting(slot);
    }
}

/// Bytes of a line's backlog.
fn waiting(line: &Line) -> usize {
    let backlog = line.luggage.as_ref().and_then(|luggage| luggage.backlog.as_ref());
    backlog.map_or(0, |backlog| backlog.len())
}
