//! One thread's event loop: moves bytes between the sockets and the sessions, and batches between the sessions and the
//! tokio side. It decides nothing.

mod accept;
mod adopt;
mod backlog;
mod deliveries;
mod doors;
mod entries;
mod gate;
mod hand_over;
mod line;
mod listener;
mod moving;
mod order;
mod outbox;
mod read;
mod secure;
mod sniff;
#[cfg(test)]
mod tests;
mod tls;
mod turn;
mod websocket;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::mpsc;

pub use adopt::Arrival;
pub use doors::{Doors, WebSocketDoor};
pub(crate) use entries::{Entries, Reasons};
pub use hand_over::{AskQueues, AskStreams, ask_queues};
pub(crate) use line::{Line, TRANSPORTS};
pub use listener::listen;
pub use order::{Counts, NotTaken, Order, Status, Thread};
pub use outbox::Bounds;

use self::{
    adopt::{Departure, Sibling},
    deliveries::Deliveries,
    gate::Gate,
    hand_over::Gathering,
    listener::Listener,
    order::Bell,
    outbox::Outbox,
};
use crate::{
    clock::Now,
    exchange::ConnKey,
    session::{Limits, Sessions},
};

const LISTENER: Token = Token(usize::MAX);
const BELL: Token = Token(usize::MAX - 1);
/// Events taken at a time. Reading takes about 2 µs and answering 7 µs, so a turn stays within 5 ms.
const EVENTS: usize = 512;
/// One read. Larger than most devices' sends by far, and it stays in the second-level cache.
const READ_BYTES: usize = 64 * 1024;
/// Orders that may wait for a thread, in each of its two queues. Each is a batch; at its bound the callers wait.
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
    /// What is let in besides native frames.
    pub doors: Doors,
}

impl Setup {
    /// The same, with these doors.
    pub(crate) fn with_doors(self, doors: &Doors) -> Self {
        Self { doors: doors.clone(), ..self }
    }
}

/// One thread's event loop.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    listener: Option<Listener>,
    sessions: Sessions,
    outbox: Outbox,
    doors: Doors,
    max_frame: usize,
    /// Bytes of frames, messages and records that have not come in whole, and how many they may be.
    partial: usize,
    partial_bound: usize,
    partial_shed: u64,
    buffer: Box<[u8]>,
    /// What TLS has opened.
    plain: Vec<u8>,
    /// Connections that wait for their turn to go on with the handshake of TLS, and how many may yet in this turn.
    shaking: VecDeque<ConnKey>,
    handshakes_left: usize,
    entries: Entries,
    /// Connections that were not read to the end.
    unread: Vec<ConnKey>,
    departures: Vec<Departure>,
    /// All threads of the room, in order.
    siblings: Vec<Sibling>,
    orders: mpsc::Receiver<Order>,
    later: mpsc::Receiver<Order>,
    deliveries: Deliveries,
    asks: AskQueues,
    gathering: Gathering,
    /// Binds wait for others until then.
    binds_due_ms: Option<u64>,
    bell: Arc<Bell>,
    status: Arc<Status>,
    clock: Clock,
    tick_ms: u64,
    gate: Gate,
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
        let (sender, orders) = mpsc::channel(ORDERS);
        let (later_sender, later) = mpsc::channel(ORDERS);
        let clock = Clock(Instant::now());
        let seed = clock.now().unix_ms ^ u64::from(setup.number) << 56;
        let sessions = Sessions::new(setup.limits, setup.number, seed, clock.now());
        let status = Arc::new(Status::of(&sessions));
        let event_loop = Self {
            poll,
            listener: Some(Listener::new(socket)),
            sessions,
            outbox: Outbox::new(setup.bounds),
            doors: setup.doors,
            max_frame: setup.max_frame,
            partial: 0,
            partial_bound: setup.partial_bytes,
            partial_shed: 0,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            plain: Vec::new(),
            shaking: VecDeque::new(),
            handshakes_left: 0,
            entries: Entries::default(),
            unread: Vec::new(),
            departures: Vec::new(),
            siblings: Vec::new(),
            orders,
            later,
            deliveries: Deliveries::default(),
            asks,
            gathering: Gathering::default(),
            binds_due_ms: None,
            bell: Arc::clone(&bell),
            status: Arc::clone(&status),
            clock,
            tick_ms: 0,
            gate: Gate::open(),
            more: false,
            soon: false,
            stop: None,
        };
        Ok((event_loop, Thread { orders: sender, later: later_sender, bell, status }))
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
            self.shake(now);
            self.depart(now);
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
                            self.depart(now);
                        }
                    }
                }
            }
            self.accept(now);
            for conn in std::mem::take(&mut self.unread) {
                if self.sessions.generation(conn.slot) == Some(conn.generation) {
                    self.read(conn, true, now);
                    self.depart(now);
                }
            }
            if !self.turn(now) {
                return Ok(());
            }
        }
    }
}

/// Bytes that one connection takes here besides its session and binding, for the memory account.
pub const CONNECTION_BYTES: usize = outbox::SOCKET_BYTES;
