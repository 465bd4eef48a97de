//! One thread's event loop: moves bytes between the sockets and the sessions, and batches between the sessions and the
//! tokio side. It decides nothing.

mod accept;
mod backlog;
mod hand_over;
mod listener;
mod order;
mod outbox;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::mpsc;
use wire::ServerDecoder;

pub use hand_over::{AskQueues, AskStreams, ask_queues};
pub use listener::listen;
pub use order::{Counts, NotTaken, Order, Status, Thread};
pub use outbox::Bounds;

use self::{listener::Listener, order::Bell, outbox::Outbox};
use crate::{
    clock::Now,
    exchange::ConnKey,
    session::{Limits, Sessions},
};

const LISTENER: Token = Token(usize::MAX);
const BELL: Token = Token(usize::MAX - 1);
/// Events taken at a time; with some microseconds each, a turn stays within milliseconds.
const EVENTS: usize = 1_024;
/// One read. Larger than most devices' sends by far, and it stays in the second-level cache.
const READ_BYTES: usize = 64 * 1024;
/// Reads of one connection before others have their turn.
const READS: usize = 4;
/// Orders that may wait for a thread. Each is a batch; at its bound the callers wait.
const ORDERS: usize = 256;

/// What a thread is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which thread this is.
    pub number: u8,
    /// Bounds of the sessions.
    pub limits: Limits,
    /// Bounds of what waits for sockets.
    pub bounds: Bounds,
    /// Largest frame from a device, bytes.
    pub max_frame: usize,
    /// Bytes of frames that have not come in whole, of all connections; who would go over it is closed.
    pub partial_bytes: usize,
}

/// One thread's event loop.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    listener: Option<Listener>,
    sessions: Sessions,
    outbox: Outbox,
    /// By slot; the decoder of a connection at rest is 16 bytes and holds nothing.
    decoders: Vec<ServerDecoder>,
    max_frame: usize,
    /// Bytes that the decoders hold, and how many they may.
    partial: usize,
    partial_bound: usize,
    partial_shed: u64,
    buffer: Box<[u8]>,
    /// Connections that were not read to the end.
    unread: Vec<ConnKey>,
    orders: mpsc::Receiver<Order>,
    asks: AskQueues,
    bell: Arc<Bell>,
    status: Arc<Status>,
    clock: Clock,
    tick_ms: u64,
    accept_pauses: u64,
    refused: u64,
    /// Fan-out has more to do.
    more: bool,
    /// Something is to be looked at before the next tick.
    soon: bool,
    /// Ends when nothing would be lost, or (true) at once.
    stop: Option<bool>,
}

#[derive(Debug)]
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Now {
        Now {
            ms: self.0.elapsed().as_millis() as u64,
            unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        }
    }
}

impl EventLoop {
    /// A loop on a port that [`listen`] opened.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(setup: Setup, listener: std::net::TcpListener, asks: AskQueues) -> io::Result<(Self, Thread)> {
        let poll = Poll::new()?;
        let mut socket = mio::net::TcpListener::from_std(listener);
        poll.registry().register(&mut socket, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), BELL)?;
        let bell = Arc::new(Bell { waker, asleep: AtomicBool::new(false) });
        let status = Arc::new(Status::default());
        let (sender, orders) = mpsc::channel(ORDERS);
        let clock = Clock(Instant::now());
        let seed = clock.now().unix_ms ^ u64::from(setup.number) << 56;
        let event_loop = Self {
            poll,
            listener: Some(Listener::new(socket)),
            sessions: Sessions::new(setup.limits, setup.number, seed, clock.now()),
            outbox: Outbox::new(setup.bounds),
            decoders: Vec::new(),
            max_frame: setup.max_frame,
            partial: 0,
            partial_bound: setup.partial_bytes,
            partial_shed: 0,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            unread: Vec::new(),
            orders,
            asks,
            bell: Arc::clone(&bell),
            status: Arc::clone(&status),
            clock,
            tick_ms: 0,
            accept_pauses: 0,
            refused: 0,
            more: false,
            soon: false,
            stop: None,
        };
        Ok((event_loop, Thread { orders: sender, bell, status }))
    }

    /// Where devices connect.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |listener| listener.socket.local_addr())
    }

    /// Runs until [`Order::Stop`], or until nobody can give orders any more.
    ///
    /// # Errors
    /// When the system's event queue fails, which it does not while the process is sane.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            let now = self.clock.now();
            self.outbox.now_ms = now.ms;
            for event in &events {
                match event.token() {
                    LISTENER => {
                        if let Some(listener) = &mut self.listener {
                            listener.ready = true;
                        }
                    }
                    BELL => {}
                    Token(token) => {
                        let conn = ConnKey { slot: token as u32, generation: (token as u64 >> 32) as u32 };
                        if self.sessions.generation(conn.slot) != Some(conn.generation) {
                            continue;
                        }
                        if event.is_writable() {
                            self.outbox.on_writable(conn.slot);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.read(conn, event.is_read_closed(), now);
                        }
                    }
                }
            }
            self.accept(now);
            for conn in std::mem::take(&mut self.unread) {
                if self.sessions.generation(conn.slot) == Some(conn.generation) {
                    self.read(conn, true, now);
                }
            }
            if !self.turn(now) {
                return Ok(());
            }
        }
    }

    /// Reads a connection; `to_end`: until the socket has nothing more, because no further event may come.
    fn read(&mut self, conn: ConnKey, to_end: bool, now: Now) {
        for _ in 0..READS {
            let Some(stream) = self.outbox.stream(conn.slot) else { return };
            let count = match stream.read(&mut self.buffer) {
                Ok(0) => return self.close(conn.slot),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(conn.slot),
            };
            self.decode(conn.slot, count, now);
            // A short read has emptied the socket; whatever comes after it makes a new event.
            if count < self.buffer.len() && !to_end {
                return;
            }
        }
        self.unread.push(conn);
    }

    fn decode(&mut self, slot: u32, count: usize, now: Now) {
        if self.outbox.is_finishing(slot) {
            return;
        }
        let held = |decoders: &[ServerDecoder]| decoders.get(slot as usize).map_or(0, ServerDecoder::held);
        let before = held(&self.decoders);
        self.feed(slot, count, now);
        let after = held(&self.decoders);
        self.partial = self.partial + after - before;
        // Many connections that send the beginnings of frames and then wait could fill the memory together.
        if after > before && self.partial > self.partial_bound {
            self.partial_shed += 1;
            let code = wire::frame::CloseCode::Busy;
            self.sessions.close(
                slot,
                code,
                "too much has come in of frames without an end",
                now,
                &mut self.outbox,
            );
            self.forget_partial(slot);
        }
    }

    fn feed(&mut self, slot: u32, count: usize, now: Now) {
        let Some(decoder) = self.decoders.get_mut(slot as usize) else { return };
        let mut input = &self.buffer[..count];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => {
                    if !self.sessions.on_frame(slot, frame, now, &mut self.outbox) {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    let message = error.to_string();
                    return self.sessions.close(slot, error.close_code(), &message, now, &mut self.outbox);
                }
            }
        }
    }

    /// A connection begins, or is not read any more: its decoder holds nothing.
    fn forget_partial(&mut self, slot: u32) {
        if let Some(decoder) = self.decoders.get_mut(slot as usize) {
            self.partial -= decoder.held();
            *decoder = ServerDecoder::for_server(self.max_frame);
        }
    }

    /// The peer has closed.
    fn close(&mut self, slot: u32) {
        self.sessions.on_closed(slot);
        self.outbox.remove(slot);
        self.forget_partial(slot);
    }
}

/// Bytes that one connection takes here besides its session and binding, for the memory account.
pub const CONNECTION_BYTES: usize = outbox::SOCKET_BYTES + std::mem::size_of::<ServerDecoder>();
