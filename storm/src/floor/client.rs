//! The floor's receivers, and who gives the orders.

mod rounds;
mod singles;

use std::{
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::rounds::Round;
use super::{
    FloorOptions, FloorReport,
    server::{FEEDER, HELLO, TELL, send},
};
use crate::fleet::{Sources, dial};

/// Connections that are being opened at the same time.
const OPENING: usize = 1000;

/// Rounds outstanding in the measurement that rewards servers that merge frames.
const TEN: u64 = 10;

/// Nothing at all for so long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connection that gives the orders; beyond every receiver's number.
const ORDERS: Token = Token(usize::MAX);

struct Client {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    receivers: Vec<Receiver>,
    feeder: TcpStream,
    payload: usize,
}

struct Receiver {
    stream: TcpStream,
    greeted: bool,
    /// Bytes of messages that have not been counted yet.
    bytes: u64,
}

pub(super) fn measure(
    options: &FloorOptions,
    port: u16,
    resident: impl Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<FloorReport> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = Client::new(address, options)?;
    let before = resident()?;
    let start = Instant::now();
    client.connect(address, options.connections as usize)?;
    let connecting = start.elapsed();
    let grown = resident()?.saturating_sub(before);
    let time = options.seconds;
    let round_by_round = client.rounds(time, Round::Single, 1)?;
    let sends_per_second = client.told()?;
    let ten_rounds = client.rounds(time, Round::Single, TEN)?;
    let ten_merged = client.rounds(time, Round::Merged, 1)?;
    let acked = client.rounds(time, Round::Acked, 1)?;
    let ten_acked = client.rounds(time, Round::Acked, TEN)?;
    let (singles_per_second, latencies) = client.singles(time, options.window.max(1))?;
    Ok(FloorReport {
        connections: options.connections,
        payload: client.payload,
        connects_per_second: f64::from(options.connections) / connecting.as_secs_f64(),
        bytes_per_connection: grown as f64 / f64::from(options.connections),
        sends_per_second,
        round_by_round_per_second: round_by_round,
        ten_rounds_per_second: ten_rounds,
        ten_merged_per_second: ten_merged,
        acked_per_second: acked,
        ten_acked_per_second: ten_acked,
        singles_per_second,
        singles: latencies.percentiles(),
    })
}

impl Client {
    /// With the connection for orders alone.
    fn new(address: SocketAddr, options: &FloorOptions) -> anyhow::Result<Self> {
        let mut feeder: std::net::TcpStream = std::net::TcpStream::connect(address)?;
        feeder.set_nodelay(true)?;
        io::Write::write_all(&mut feeder, &[FEEDER])?;
        feeder.set_nonblocking(true)?;
        let mut feeder = TcpStream::from_std(feeder);
        let poll = Poll::new()?;
        poll.registry().register(&mut feeder, ORDERS, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            receivers: Vec::with_capacity(options.connections as usize),
            feeder,
            payload: options.payload.max(1),
        })
    }

    /// Opens all connections, each with a hello and its answer.
    fn connect(&mut self, address: SocketAddr, all: usize) -> anyhow::Result<()> {
        let sources = Sources { first: Ipv4Addr::new(127, 2, 0, 1), per_address: 1000 };
        let mut greeted = 0;
        while greeted < all {
            while self.receivers.len() < all && self.receivers.len() - greeted < OPENING {
                let index = self.receivers.len();
                let source = IpAddr::V4(sources.of(index as u32));
                let mut stream =
                    dial(address, Some(source), None).context("connecting to the floor's server")?;
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, Token(index), both)?;
                self.receivers.push(Receiver { stream, greeted: false, bytes: 0 });
            }
            self.wait()?;
            greeted += self.greet()?;
        }
        Ok(())
    }

    /// Says hello where a connection has just come about, and counts the answers.
    fn greet(&mut self) -> anyhow::Result<usize> {
        let mut answered = 0;
        for event in &self.events {
            let Some(receiver) = self.receivers.get_mut(event.token().0) else { continue };
            if event.is_writable() && !receiver.greeted && receiver.stream.peer_addr().is_ok() {
                send(&mut receiver.stream, &[HELLO])?;
                receiver.greeted = true;
            }
            if event.is_readable() {
                answered += read_all(&mut receiver.stream, &mut self.buffer)?;
            }
        }
        Ok(answered)
    }

    /// Sends per second in the server's bare loop so far.
    fn told(&mut self) -> anyhow::Result<f64> {
        send(&mut self.feeder, &TELL.to_be_bytes())?;
        let (mut told, mut have) = ([0; 16], 0);
        let deadline = Instant::now() + PATIENCE;
        while have < told.len() {
            match self.feeder.read(&mut told[have..]) {
                Ok(0) => anyhow::bail!("the floor's server is gone"),
                Ok(got) => have += got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(Instant::now() < deadline, "the floor's server does not answer");
                    std::thread::yield_now();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (ns, sent) = told.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(number(sent) as f64 / (number(ns) as f64 / 1e9).max(1e-9))
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            other => {
                other.context("polling")?;
                ensure!(!self.events.is_empty(), "nothing has come for {} s", PATIENCE.as_secs());
            }
        }
        Ok(())
    }
}

fn read_all(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut bytes = 0;
    loop {
        match stream.read(buffer) {
            Ok(0) => anyhow::bail!("the floor's server closed a connection"),
            Ok(got) => {
                bytes += got;
                // A short read has emptied the socket.
                if got < buffer.len() {
                    return Ok(bytes);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
