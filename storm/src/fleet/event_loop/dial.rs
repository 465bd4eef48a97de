//! Opening connections: which device, from where, to where.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use client::Moment;
use mio::{Interest, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    EventLoop,
    device::{Device, Dial, Line},
    router::{Answer, Question},
    wrap::Wrap,
};
use crate::fleet::Route;

/// A connection over loopback or a data center either stands within this time or never will.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Receive buffer of a device that does not read; the kernel doubles it. What it leaves unread is then the room's to
/// keep, and not the kernel's.
const SLOW_BUFFER: usize = 4096;

/// The dispatcher's queue is empty again by then.
const ROUTER_FULL: Duration = Duration::from_millis(20);

impl EventLoop {
    /// Opens as many connections as pace and bound allow: first those that come back, then new ones.
    pub(super) fn open_due(&mut self, now: Instant) {
        while self.opening < self.spec.opening_max {
            if let Some(index) = self.ready.pop_front() {
                self.begin(index);
            } else if self.begun < self.begin && self.ramp.due(now) > 0 {
                self.ramp.take();
                self.begun += 1;
                self.begin(self.begun - 1);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, index: u32) {
        let began_ns = self.clock.now_ns();
        let device = &mut self.devices[index as usize];
        if !matches!(device.line, Line::Down) || device.gone {
            return;
        }
        device.opening = true;
        self.opening += 1;
        let dial = device.dial.get_or_insert_default();
        dial.began_ns = began_ns;
        let next = dial.next.pop_front();
        match (next, &self.spec.route) {
            (Some(address), _) => self.connect(index, address),
            (None, Route::Rooms(rooms)) => {
                let number = self.spec.first as usize + index as usize + device.room as usize;
                let address = rooms[number % rooms.len()];
                self.connect(index, address);
            }
            (None, Route::Dispatcher(_)) => self.ask(index),
        }
    }

    fn ask(&mut self, index: u32) {
        let device = &mut self.devices[index as usize];
        let tried = device.dial.take().map_or_else(Vec::new, |dial| dial.tried);
        let question = Question { index, uid: self.spec.uid(self.spec.first + index), tried };
        let asked = self.router.as_ref().is_some_and(|router| router.ask(question).is_ok());
        if asked {
            device.line = Line::Asking;
        } else {
            self.retry(index, ROUTER_FULL);
        }
    }

    /// The dispatcher has answered.
    pub(super) fn on_answer(&mut self, answer: Answer) {
        let Answer { index, route } = answer;
        let device = &mut self.devices[index as usize];
        if !matches!(device.line, Line::Asking) {
            return;
        }
        device.line = Line::Down;
        match route {
            Ok((addresses, after)) => {
                device.dial = Some(Box::new(Dial { next: addresses.into(), ..Dial::default() }));
                if after.is_zero() {
                    device.opening = false;
                    self.opening -= 1;
                    self.begin(index);
                } else {
                    self.retry(index, after);
                }
            }
            Err(why) => {
                self.measured.reason(&format!("dispatcher: {why}"));
                self.connect_failed(index, None);
            }
        }
    }

    fn connect(&mut self, index: u32, address: SocketAddr) {
        self.measured.counts.attempts += 1;
        let source = self.spec.sources.filter(|_| address.is_ipv4() && address.ip().is_loopback());
        let source = source.map(|sources| IpAddr::V4(sources.of(self.spec.first + index)));
        let device = &self.devices[index as usize];
        let buffer = device.slow.then_some(SLOW_BUFFER);
        let transport = self.spec.line.transports.of(self.spec.first + index);
        let wrap = Wrap::new(transport, self.tls.as_ref(), (address, !device.ever_bound));
        let opened = wrap.map_err(io::Error::other).and_then(|wrap| {
            let mut stream = open(address, source, buffer)?;
            // Edge-triggered, so both interests for good cost nothing at rest.
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index as usize), both)?;
            Ok((stream, wrap))
        });
        match opened {
            Ok((stream, wrap)) => {
                // Over loopback it stands already; to be told so would cost a turn of the loop.
                let stands = stream.peer_addr().is_ok();
                let device = &mut self.devices[index as usize];
                device.line = Line::Connecting(stream);
                device.wrap = wrap;
                device.head_for(address);
                device.dial.get_or_insert_default().retry_at = self.now + CONNECT_TIMEOUT;
                if stands {
                    self.established(index);
                } else {
                    self.arm(index);
                }
            }
            Err(error) => {
                self.measured.reason(&format!("connect: {error}"));
                self.connect_failed(index, Some(address));
            }
        }
    }

    /// A connection did not come about.
    pub(super) fn connect_failed(&mut self, index: u32, address: Option<SocketAddr>) {
        self.measured.counts.connect_failures += 1;
        let device = &mut self.devices[index as usize];
        if let Some(address) = address {
            device.failed(address);
        }
        device.room = device.room.wrapping_add(1);
        let wait = self.config.backoff.delay(device.failures.into(), &mut self.dice);
        device.failures = device.failures.saturating_add(1);
        // More addresses of the same answer are tried at once, as a device does.
        let more = device.dial.as_ref().is_some_and(|dial| !dial.next.is_empty());
        self.retry(index, if more { Duration::ZERO } else { wait });
    }

    /// Lets a device whose line is down connect again after a while.
    pub(super) fn retry(&mut self, index: u32, after: Duration) {
        let device = &mut self.devices[index as usize];
        self.opening -= u32::from(device.opening);
        device.opening = false;
        close_line(device);
        if !device.gone {
            // At least a millisecond: a failure at once must not spin.
            device.dial.get_or_insert_default().retry_at = self.now + after.max(Duration::from_millis(1));
            self.arm(index);
        }
    }

    /// Makes sure that the loop looks at this device in time.
    pub(super) fn arm(&mut self, index: u32) {
        let device = &mut self.devices[index as usize];
        let at = device.deadline();
        if at < device.armed {
            device.armed = at;
            self.timers.push(at, index);
        }
    }
}

/// Forgets socket and buffers. Dropping the socket closes it and takes it out of the poll.
pub(super) fn close_line(device: &mut Device) {
    device.line = Line::Down;
    device.unsent = None;
    device.wrap = None;
    if let Some(dial) = &mut device.dial {
        dial.retry_at = Moment::NEVER;
    }
    device.decoder = wire::ClientDecoder::for_client(wire::limits::MAX_SERVER_FRAME);
}

/// Begins a connection without waiting for it, perhaps from an address of ours, perhaps with another receive buffer
/// than the kernel's own.
pub(crate) fn open(
    address: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        // Before the connection, which agrees on the window's scale.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn is_in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no stable ErrorKind; 115 is its number on Linux.
    const EINPROGRESS: i32 = 115;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(EINPROGRESS)
}
