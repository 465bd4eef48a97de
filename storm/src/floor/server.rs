//! The least that a server can do: accept, answer, send.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Socket, Type};

use crate::worker::frame;

/// What a client sends first to be a receiver; it is sent back.
pub(super) const HELLO: u8 = b'R';
/// What the one that gives orders sends first.
pub(super) const FEEDER: u8 = b'F';
/// Bytes of an order: the receiver's number, or [`ALL`].
pub(super) const ORDER: usize = 4;
/// Order to send to all receivers.
pub(super) const ALL: u32 = u32::MAX;
/// Order to tell, on the feeder, the nanoseconds spent in rounds and the messages sent in them.
pub(super) const TELL: u32 = u32::MAX - 1;
/// Order to send ten messages at once to all receivers.
pub(super) const ALL_TEN: u32 = u32::MAX - 2;
/// A receiver's byte up to this is the number of messages that it answers; the greetings are above. For every round that
/// all have answered, the feeder is sent a byte.
pub(super) const ACK_MAX: u8 = 63;

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// The kernel cuts this to its own bound; a storm's connects must not be refused for want of a place.
const BACKLOG: i32 = 65_535;

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Everything that was accepted.
    connections: Vec<TcpStream>,
    /// Those of them that said hello, in that order.
    receivers: Vec<usize>,
    feeder: Option<usize>,
    /// Beginning of an order.
    partial: Vec<u8>,
    payload: Vec<u8>,
    ten: Vec<u8>,
    in_rounds: Duration,
    sent: u64,
    /// Messages that receivers have answered and the feeder was not told of.
    acked: usize,
}

/// What the server is told.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// Bytes of a message
    pub payload: usize,
    /// Processor to run on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Serves until standard input ends. Tells its port on standard output first.
///
/// # Errors
/// If it cannot listen or poll.
pub fn serve(options: &ServerOptions) -> anyhow::Result<()> {
    crate::limits::raise_open_files();
    crate::limits::pin(&Vec::from_iter(options.cpu))?;
    let payload = vec![b'x'; options.payload.max(1)];
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    let mut listener = TcpListener::from_std(socket.into());
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    frame::write(&mut io::stdout(), &listener.local_addr()?.port())?;
    let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
    // Kept here too: a waker that is dropped takes its last call with it.
    let at_end = waker.clone();
    // Ends with the process; it holds nothing.
    thread::Builder::new().name("floor-stdin".into()).spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = at_end.wake();
    })?;
    let served = Server {
        poll,
        listener,
        connections: Vec::new(),
        receivers: Vec::new(),
        feeder: None,
        partial: Vec::new(),
        ten: payload.repeat(10),
        payload,
        in_rounds: Duration::ZERO,
        sent: 0,
        acked: 0,
    }
    .run();
    drop(waker);
    served
}

impl Server {
    fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context("polling")?,
            }
            for event in &events {
                match event.token() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    Token(index) => self.read(index, &mut buffer)?,
                }
            }
            self.tell_answers()?;
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(self.connections.len());
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    self.connections.push(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error).context("accepting"),
            }
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        loop {
            let got = match self.connections[index].read(buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A reset is the client's good-bye.
                Err(_) => return Ok(()),
            };
            self.take(index, &buffer[..got])?;
            // A short read has emptied the socket.
            if got < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, index: usize, bytes: &[u8]) -> anyhow::Result<()> {
        match bytes[0] {
            _ if self.feeder == Some(index) => self.obey(bytes)?,
            0..=ACK_MAX => self.acked += bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            HELLO => {
                self.receivers.push(index);
                send(&mut self.connections[index], &[HELLO])?;
            }
            FEEDER => {
                self.feeder = Some(index);
                self.obey(&bytes[1..])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn obey(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.partial.extend_from_slice(bytes);
        let orders = std::mem::take(&mut self.partial);
        let (whole, rest) = orders.as_chunks::<ORDER>();
        for order in whole {
            match u32::from_be_bytes(*order) {
                ALL => self.round()?,
                ALL_TEN => {
                    for index in &self.receivers {
                        send(&mut self.connections[*index], &self.ten)?;
                    }
                }
                TELL => self.tell()?,
                receiver => {
                    if let Some(index) = self.receivers.get(receiver as usize) {
                        send(&mut self.connections[*index], &self.payload)?;
                    }
                }
            }
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// The bare loop.
    fn round(&mut self) -> io::Result<()> {
        let start = Instant::now();
        for index in &self.receivers {
            send(&mut self.connections[*index], &self.payload)?;
        }
        self.in_rounds += start.elapsed();
        self.sent += self.receivers.len() as u64;
        Ok(())
    }

    /// A byte for each round that everybody has answered.
    fn tell_answers(&mut self) -> io::Result<()> {
        let Some(feeder) = self.feeder else { return Ok(()) };
        while self.acked >= self.receivers.len() && !self.receivers.is_empty() {
            self.acked -= self.receivers.len();
            send(&mut self.connections[feeder], b".")?;
        }
        Ok(())
    }

    fn tell(&mut self) -> io::Result<()> {
        let Some(feeder) = self.feeder else { return Ok(()) };
        let mut told = crate::clock::nanos(self.in_rounds).to_be_bytes().to_vec();
        told.extend_from_slice(&self.sent.to_be_bytes());
        send(&mut self.connections[feeder], &told)
    }
}

/// Sends all of it. The windows here fit into any socket's buffer, so a full one is rare and is waited for.
pub(super) fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
