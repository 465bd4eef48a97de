//! The sockets' way out.
//!
//! Frames of one turn are staged and leave in one `writev` per connection at the turn's end. What a socket refuses, and
//! only that, is kept as its backlog; a connection with nothing to write holds no buffer. Every byte that waits for a
//! connection is counted against its bound, whoever shares it.

mod flush;
mod framing;
mod json;
mod lines;
mod message;
mod outlet;
mod queue;
mod sealed;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use foldhash::fast::RandomState;
use mio::net::TcpStream;

use self::json::Texts;
use super::{
    backlog::Backlog,
    line::{Kind, LineCounts, Luggage, Shield, transport},
};
use crate::session::Class;

/// No piece: the end of a chain.
const NONE: u32 = u32::MAX;

/// Bounds of what waits for sockets, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For one connection; broadcasts take at most three quarters of it, so that there is always room for a unicast. One frame
    /// may be larger if nothing else waits.
    pub connection: usize,
    /// More than that for answers and notices, and half of it for urgent unicasts.
    pub reserve: usize,
    /// For all connections of the thread; whoever would go over it is closed.
    pub thread: usize,
}

/// One connection's socket: 32 bytes.
#[derive(Debug)]
struct Socket {
    stream: Option<TcpStream>,
    /// Chain of staged pieces.
    first: u32,
    last: u32,
    /// Bytes staged and in the backlog.
    pending: u32,
    luggage: Option<Box<Luggage>>,
    kind: Kind,
    shield: Shield,
    /// Something was refused this turn: the sessions have to be told when there is room.
    refused: bool,
    /// To be closed for writing when all has been written.
    finishing: bool,
    dead: bool,
    /// Waits for its turn to be read.
    queued: bool,
}

#[derive(Debug)]
enum Bits {
    /// Built for one connection; lies in the scratch buffer.
    Built {
        start: u32,
        end: u32,
    },
    Shared(Bytes),
}

#[derive(Debug)]
struct Piece {
    bits: Bits,
    next: u32,
    class: Class,
    /// It belongs to the frame of the piece before.
    goes_on: bool,
}

impl Piece {
    fn bytes<'a>(&'a self, scratch: &'a [u8]) -> &'a [u8] {
        match &self.bits {
            Bits::Built { start, end } => &scratch[*start as usize..*end as usize],
            Bits::Shared(bytes) => bytes,
        }
    }
}

/// All sockets of a thread, by the slot of their connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    sockets: Vec<Socket>,
    bounds: Bounds,
    pieces: Vec<Piece>,
    scratch: Vec<u8>,
    dirty: Vec<u32>,
    /// Bytes in all backlogs.
    waiting: usize,
    drained: Vec<u32>,
    dead: Vec<u32>,
    pub(crate) now_ms: u64,
    /// Connections that were closed because the thread's bound was reached, or their own with its reserve.
    pub(crate) shed: u64,
    /// Messages that were taken out of a queue because a newer one took their place.
    pub(crate) replaced: u64,
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
    pub(super) lines: LineCounts,
    /// What is to be sealed, and what has been, of one line at a time.
    plain: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    texts: Texts,
    /// Hashes the keys of messages that replace each other; seeded at random, so that nobody can make two meet.
    keys: RandomState,
    /// The close code of a WebSocket that is being ended for a reason of its own.
    pub(super) websocket_code: Option<u16>,
}

impl Outbox {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            sockets: Vec::new(),
            bounds,
            pieces: Vec::new(),
            scratch: Vec::new(),
            dirty: Vec::new(),
            waiting: 0,
            drained: Vec::new(),
            dead: Vec::new(),
            now_ms: 0,
            shed: 0,
            replaced: 0,
            writes: 0,
            bytes: 0,
            lines: LineCounts::default(),
            plain: Vec::new(),
            sealed: Vec::new(),
            texts: Texts::default(),
            keys: RandomState::default(),
            websocket_code: None,
        }
    }

    /// Takes a connection's socket.
    pub(crate) fn insert(&mut self, slot: u32, stream: TcpStream) {
        let at = slot as usize;
        while self.sockets.len() <= at {
            self.sockets.push(Socket::empty());
        }
        self.sockets[at] = Socket { stream: Some(stream), ..Socket::empty() };
    }

    /// Closes a connection's socket and forgets what waits for it.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            let gone = std::mem::replace(socket, Socket::empty());
            self.waiting -= gone.backlog().map_or(0, Backlog::len);
            if let Some(transport) = transport(gone.kind, gone.shield).filter(|_| gone.stream.is_some()) {
                self.lines.present[transport] -= 1;
                self.lines.closed[transport] += 1;
            }
        }
    }

    /// Connections whose sockets are broken or were given up; each once.
    pub(crate) fn take_dead(&mut self) -> Vec<u32> {
        let mut dead = std::mem::take(&mut self.dead);
        // A slot that is another's by now is not meant.
        dead.retain(|slot| self.sockets.get(*slot as usize).is_some_and(|socket| socket.dead));
        dead
    }

    /// Connections that have room again; each at least once.
    pub(crate) fn take_drained(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.drained)
    }

    /// Whether connections wait to be told that they have room.
    pub(crate) fn has_drained(&self) -> bool {
        !self.drained.is_empty()
    }

    /// Connections with something to write at the turn's end.
    pub(crate) fn staged(&self) -> usize {
        self.dirty.len()
    }

    /// Bytes in all backlogs.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    fn kill(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize)
            && !socket.dead
        {
            socket.dead = true;
            self.dead.push(slot);
        }
    }
}

impl Socket {
    fn empty() -> Self {
        Self {
            stream: None,
            first: NONE,
            last: NONE,
            pending: 0,
            luggage: None,
            kind: Kind::Undecided,
            shield: Shield::Plain,
            refused: false,
            finishing: false,
            dead: false,
            queued: false,
        }
    }

    fn backlog(&self) -> Option<&Backlog> {
        self.luggage.as_ref()?.backlog.as_deref()
    }

    fn luggage(&mut self) -> &mut Luggage {
        self.luggage.get_or_insert_default()
    }

    /// What is empty is not kept.
    fn unburden(&mut self) {
        if self.luggage.as_ref().is_some_and(|luggage| luggage.is_empty()) {
            self.luggage = None;
        }
    }
}

/// Bytes of one connection's entry here, for the memory account.
pub(crate) const SOCKET_BYTES: usize = std::mem::size_of::<Socket>();
