//! The sockets' way out.
//!
//! Frames of one turn are staged and leave in one `writev` per connection at the turn's end. What a socket refuses, and
//! only that, is kept as its backlog; a connection with nothing to write holds no buffer. Every byte that waits for a
//! connection is counted against its bound, whoever shares it.

mod outlet;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, Write as _};

use bytes::Bytes;
use mio::net::TcpStream;

use super::backlog::Backlog;

/// No piece: the end of a chain.
const NONE: u32 = u32::MAX;
/// Slices of one `writev`. The kernel takes 1,024; more than 64 frames for one connection in one turn are rare.
const MAX_SLICES: usize = 64;

/// Bounds of what waits for sockets, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For one connection. One frame may be larger if nothing else waits.
    pub connection: usize,
    /// More than that for answers and notices.
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
    backlog: Option<Box<Backlog>>,
    /// Something was refused this turn: the sessions have to be told when there is room.
    refused: bool,
    /// To be closed for writing when all has been written.
    finishing: bool,
    dead: bool,
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
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
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
            writes: 0,
            bytes: 0,
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
            self.waiting -= gone.backlog.map_or(0, |backlog| backlog.len());
        }
    }

    pub(crate) fn stream(&mut self, slot: u32) -> Option<&mut TcpStream> {
        self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead)?.stream.as_mut()
    }

    /// Whether what comes in is to be thrown away.
    pub(crate) fn is_finishing(&self, slot: u32) -> bool {
        self.sockets.get(slot as usize).is_none_or(|socket| socket.finishing || socket.dead)
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

    /// Bytes in all backlogs.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

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

    fn flush_one(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        let mut at = std::mem::replace(&mut socket.first, NONE);
        socket.last = NONE;
        let Some(stream) = socket.stream.as_mut().filter(|_| !socket.dead) else { return };
        // Bytes of the first piece that have been written.
        let mut skip = 0;
        while at != NONE {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let (mut count, mut next) = (0, at);
            while next != NONE && count < MAX_SLICES {
                let piece = &self.pieces[next as usize];
                let from = if count == 0 { skip } else { 0 };
                slices[count] = IoSlice::new(&piece.bytes(&self.scratch)[from..]);
                count += 1;
                next = piece.next;
            }
            let written = match &slices[..count] {
                [one] => stream.write(one),
                many => stream.write_vectored(many),
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

    /// Keeps what the socket refused.
    fn keep(&mut self, slot: u32, mut at: u32, mut skip: usize) {
        let mut backlog = Backlog::new(self.now_ms);
        while at != NONE {
            let piece = &self.pieces[at as usize];
            backlog.push(match &piece.bits {
                Bits::Shared(bytes) => bytes.slice(skip..),
                Bits::Built { .. } => Bytes::copy_from_slice(&piece.bytes(&self.scratch)[skip..]),
            });
            (at, skip) = (piece.next, 0);
        }
        self.waiting += backlog.len();
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.backlog = Some(Box::new(backlog));
        }
        if self.waiting > self.bounds.thread {
            self.shed += 1;
            self.kill(slot);
        }
    }

    /// The socket has room: writes of the backlog what it takes.
    pub(crate) fn on_writable(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize).filter(|socket| !socket.dead) else { return };
        let (Some(stream), Some(backlog)) = (&mut socket.stream, &mut socket.backlog) else { return };
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
                        socket.backlog = None;
                        socket.refused = true;
                        return self.written(slot);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => return self.kill(slot),
            }
        }
    }

    /// Nothing waits any more.
    fn written(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        if std::mem::take(&mut socket.refused) {
            self.drained.push(slot);
        }
        if socket.finishing
            && let Some(stream) = &socket.stream
        {
            // The device reads the Close frame and then the end; an error only means that it has gone already.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
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
            backlog: None,
            refused: false,
            finishing: false,
            dead: false,
        }
    }
}

/// Bytes of one connection's entry here, for the memory account.
pub(crate) const SOCKET_BYTES: usize = std::mem::size_of::<Socket>();
