//! The floor's receivers, and who gives the orders.

use std::{
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    FloorOptions, FloorReport,
    server::{ALL, FEEDER, HELLO, ORDER, TELL, send},
};
use crate::{
    fleet::{Sources, dial},
    latency::Latencies,
};

/// Connections that are being opened at the same time.
const OPENING: usize = 1000;

/// Rounds outstanding in the measurement that rewards servers that merge frames.
const TEN: u64 = 10;

/// Nothing at all for so long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

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
    bytes: u64,
}

pub(super) fn measure(options: &FloorOptions, port: u16) -> anyhow::Result<FloorReport> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let start = Instant::now();
    let mut client = Client::connect(address, options)?;
    let connecting = start.elapsed();
    let round_by_round = client.rounds(options.seconds, 1)?;
    let sends_per_second = client.told()?;
    let ten_rounds = client.rounds(options.seconds, TEN)?;
    let (singles_per_second, latencies) = client.singles(options.seconds, options.window.max(1))?;
    Ok(FloorReport {
        connections: options.connections,
        payload: client.payload,
        connects_per_second: f64::from(options.connections) / connecting.as_secs_f64(),
        sends_per_second,
        round_by_round_per_second: round_by_round,
        ten_rounds_per_second: ten_rounds,
        singles_per_second,
        singles: latencies.percentiles(),
    })
}

impl Client {
    /// Opens all connections, each with a hello and its answer.
    fn connect(address: SocketAddr, options: &FloorOptions) -> anyhow::Result<Self> {
        let mut feeder: std::net::TcpStream = std::net::TcpStream::connect(address)?;
        feeder.set_nodelay(true)?;
        io::Write::write_all(&mut feeder, &[FEEDER])?;
        feeder.set_nonblocking(true)?;
        let mut client = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            receivers: Vec::with_capacity(options.connections as usize),
            feeder: TcpStream::from_std(feeder),
            payload: options.payload.max(1),
        };
        let sources = Sources { first: Ipv4Addr::new(127, 2, 0, 1), per_address: 1000 };
        let (mut greeted, all) = (0, options.connections as usize);
        while greeted < all {
            while client.receivers.len() < all && client.receivers.len() - greeted < OPENING {
                let index = client.receivers.len();
                let source = IpAddr::V4(sources.of(index as u32));
                let mut stream =
                    dial(address, Some(source), None).context("connecting to the floor's server")?;
                let both = Interest::READABLE | Interest::WRITABLE;
                client.poll.registry().register(&mut stream, Token(index), both)?;
                client.receivers.push(Receiver { stream, greeted: false, bytes: 0 });
            }
            client.wait()?;
            greeted += client.greet()?;
        }
        Ok(client)
    }

    /// Says hello where a connection has just come about, and counts the answers.
    fn greet(&mut self) -> anyhow::Result<usize> {
        let mut answered = 0;
        for event in &self.events {
            let receiver = &mut self.receivers[event.token().0];
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

    /// Rounds to all receivers, at most `outstanding` that not all have. Answers deliveries per second.
    fn rounds(&mut self, time: Duration, outstanding: u64) -> anyhow::Result<f64> {
        let receivers = self.receivers.len() as u64;
        let round_bytes = receivers * self.payload as u64;
        let start = Instant::now();
        let (mut ordered, mut bytes) = (0, 0);
        loop {
            let ending = start.elapsed() >= time;
            while !ending && ordered - bytes / round_bytes < outstanding {
                send(&mut self.feeder, &ALL.to_be_bytes())?;
                ordered += 1;
            }
            if bytes == ordered * round_bytes {
                return Ok((ordered * receivers) as f64 / start.elapsed().as_secs_f64());
            }
            self.wait()?;
            for event in &self.events {
                if event.is_readable() {
                    let receiver = &mut self.receivers[event.token().0];
                    bytes += read_all(&mut receiver.stream, &mut self.buffer)? as u64;
                }
            }
        }
    }

    /// Single messages to one receiver after the other. Answers messages per second and their latencies.
    fn singles(&mut self, time: Duration, window: u32) -> anyhow::Result<(f64, Latencies)> {
        let all = self.receivers.len() as u32;
        // At most one on its way to each, so that an arrival names its order.
        let window = window.min(all);
        let mut sent_at = vec![None; all as usize];
        let (mut next, mut outstanding, mut arrived) = (0_u32, 0, 0_u64);
        let mut latencies = Latencies::default();
        let start = Instant::now();
        let mut orders = Vec::with_capacity(ORDER * window as usize);
        loop {
            let now = Instant::now();
            while now - start < time && outstanding < window && sent_at[next as usize].is_none() {
                orders.extend_from_slice(&next.to_be_bytes());
                sent_at[next as usize] = Some(now);
                next = (next + 1) % all;
                outstanding += 1;
            }
            send(&mut self.feeder, &orders)?;
            orders.clear();
            if outstanding == 0 {
                return Ok((arrived as f64 / start.elapsed().as_secs_f64(), latencies));
            }
            self.wait()?;
            let now = Instant::now();
            for event in &self.events {
                let index = event.token().0;
                let receiver = &mut self.receivers[index];
                if !event.is_readable() {
                    continue;
                }
                receiver.bytes += read_all(&mut receiver.stream, &mut self.buffer)? as u64;
                if receiver.bytes >= self.payload as u64
                    && let Some(at) = sent_at[index].take()
                {
                    receiver.bytes -= self.payload as u64;
                    latencies.record(now - at);
                    arrived += 1;
                    outstanding -= 1;
                }
            }
        }
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
