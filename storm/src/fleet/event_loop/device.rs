//! One device: the SDK's session, and the little that a driver keeps beside it.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use client::{Moment, Session};
use mio::net::TcpStream;
use wire::ClientDecoder;

use super::{unacked::Handle, wrap::Wrap};

/// A device. There are tens of thousands in a process, so what most do not need is boxed or empty.
pub(super) struct Device {
    pub(super) session: Session,
    pub(super) line: Line,
    pub(super) decoder: ClientDecoder,
    /// What the socket has not taken yet.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in each of a million devices")]
    pub(super) unsent: Option<Box<Vec<u8>>>,
    /// Where it may connect and when; dropped when it is bound.
    pub(super) dial: Option<Box<Dial>>,
    /// What its transport needs between frames and socket; native plain text needs nothing.
    pub(super) wrap: Option<Box<Wrap>>,
    /// The entry in the timer heap that counts; older ones are stale.
    pub(super) armed: Moment,
    /// Place of the last message, (epoch, seq).
    pub(super) place: (u64, u64),
    /// Place of the last broadcast, (epoch, bseq).
    pub(super) log_place: (u64, u64),
    /// Its messages that no ack has covered yet.
    pub(super) unacked: Handle,
    /// Failed connections in a row.
    pub(super) failures: u16,
    /// Which of the fixed rooms is next, counted from the device's own first.
    pub(super) room: u16,
    /// Digest of the address connected to last: only there a connection can be gone on with.
    pub(super) home: u16,
    /// Whether the binding stands.
    pub(super) bound: bool,
    /// Whether it has ever stood.
    pub(super) ever_bound: bool,
    /// Whether it is among those that are being opened.
    pub(super) opening: bool,
    /// Whether it will not come back by itself.
    pub(super) gone: bool,
    /// Whether it does not read while it is bound.
    pub(super) slow: bool,
    /// Whether it ever was one that does not read: its latencies say nothing about the room.
    pub(super) ever_slow: bool,
}

/// The state of a device's connection.
#[derive(Debug)]
pub(super) enum Line {
    /// None; waiting for a moment or a turn.
    Down,
    /// The dispatcher has been asked.
    Asking,
    /// On its way.
    Connecting(TcpStream),
    /// Stands, and its transport is not ready for frames: the handshake of TLS, the upgrade to WebSocket.
    Opening(TcpStream),
    /// Ready for frames.
    Open(TcpStream),
}

/// The way to a connection: addresses still to try, those tried in vain, and two moments.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) next: VecDeque<SocketAddr>,
    pub(super) tried: Vec<SocketAddr>,
    /// When the present connection was begun.
    pub(super) began_ns: u64,
    /// When to connect again, while the line is down; when to give up, while it comes about.
    pub(super) retry_at: Moment,
}

impl Default for Dial {
    fn default() -> Self {
        Self { next: VecDeque::new(), tried: Vec::new(), began_ns: 0, retry_at: Moment::NEVER }
    }
}

/// A server tells the dispatcher at most so many failures; more would only make the question long.
const MAX_TRIED: usize = 8;

impl Device {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            line: Line::Down,
            decoder: ClientDecoder::for_client(wire::limits::MAX_SERVER_FRAME),
            unsent: None,
            dial: None,
            wrap: None,
            armed: Moment::NEVER,
            place: (0, 0),
            log_place: (0, 0),
            unacked: Handle::default(),
            failures: 0,
            room: 0,
            home: 0,
            bound: false,
            ever_bound: false,
            opening: false,
            gone: false,
            slow: false,
            ever_slow: false,
        }
    }

    /// The socket, while there is one.
    pub(super) fn stream(&mut self) -> Option<&mut TcpStream> {
        match &mut self.line {
            Line::Connecting(stream) | Line::Opening(stream) | Line::Open(stream) => Some(stream),
            Line::Down | Line::Asking => None,
        }
    }

    /// When to connect again, or to give up connecting.
    pub(super) fn retry_at(&self) -> Moment {
        self.dial.as_ref().map_or(Moment::NEVER, |dial| dial.retry_at)
    }

    /// Whether it leaves unread what has come.
    pub(super) fn is_deaf(&self) -> bool {
        self.slow && self.bound
    }

    /// It connects to `address`. If that is not where it was last, it begins anew there.
    pub(super) fn head_for(&mut self, address: SocketAddr) {
        let ip = match address.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() as u64,
        };
        // Two addresses with one digest only cost a token that their room does not know.
        let home = ((ip << 16 | u64::from(address.port())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
        if home != self.home {
            self.home = home;
            self.session.forget_resume();
        }
    }

    /// Remembers that an address did not answer.
    pub(super) fn failed(&mut self, address: SocketAddr) {
        let dial = self.dial.get_or_insert_default();
        if dial.tried.len() == MAX_TRIED {
            dial.tried.remove(0);
        }
        dial.tried.push(address);
    }

    /// When the driver has something to do for this device if nothing happens before.
    pub(super) fn deadline(&self) -> Moment {
        match self.line {
            Line::Open(_) => self.session.next_deadline().unwrap_or(Moment::NEVER),
            Line::Down | Line::Connecting(_) | Line::Opening(_) => self.retry_at(),
            Line::Asking => Moment::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_stays_small() {
        // A million of them are what a storm is for; the session is the SDK's business.
        // mio's sockets have 16 bytes more in a debug build.
        let debug = size_of::<Line>() - 8;
        let own = size_of::<Device>() - size_of::<Session>() - debug;
        assert!(own <= 104, "{own} bytes");
        assert!(size_of::<Session>() <= 336, "{} bytes", size_of::<Session>());
    }
}
