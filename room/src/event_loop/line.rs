//! A connection's line: its socket, and what lies between the socket's bytes and the protocol's frames.

use mio::net::TcpStream;
use wire::{ServerDecoder, ws};

use super::{backlog::Backlog, gate::Pass, tls::Tls};

/// What is spoken on a line. A byte of each socket, so that the frequent case costs one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Native frames.
    Native,
    /// Nothing has come yet, or within TLS nothing.
    Undecided,
    /// The request for a WebSocket has not come whole.
    Request,
    /// A WebSocket with protobuf in binary messages.
    Binary,
    /// A WebSocket with JSON in text messages.
    Json,
}

/// Whether a line is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Shield {
    Plain,
    /// The TLS handshake is under way: nothing can be said.
    Shaking,
    Sealed,
}

/// What has begun to come in and is not whole.
#[derive(Debug)]
pub(super) enum Begun {
    Native(ServerDecoder),
    Message(ws::Receiver),
    Request(Vec<u8>),
}

impl Begun {
    /// Bytes that it keeps.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Native(decoder) => decoder.held(),
            Self::Message(receiver) => receiver.held(),
            Self::Request(bytes) => bytes.capacity(),
        }
    }
}

/// What a plain line at rest does not have; all of it in one box, so that a million lines at rest pay for one pointer.
#[derive(Debug, Default)]
pub(super) struct Luggage {
    pub(super) tls: Option<Box<Tls>>,
    pub(super) begun: Option<Begun>,
    pub(super) backlog: Option<Box<Backlog>>,
}

impl Luggage {
    pub(super) fn is_empty(&self) -> bool {
        self.tls.is_none() && self.begun.is_none() && self.backlog.is_none()
    }

    /// Bytes of what has not come in whole.
    pub(super) fn held(&self) -> usize {
        self.begun.as_ref().map_or(0, Begun::held) + self.tls.as_ref().map_or(0, |tls| tls.held())
    }
}

/// A line that is taken out, to go to another slot or another thread.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) stream: TcpStream,
    pub(super) kind: Kind,
    pub(super) shield: Shield,
    /// Bytes of the backlog.
    pub(super) pending: u32,
    /// Its admission; nothing while it is being taken out.
    pub(super) pass: Option<Pass>,
    pub(super) luggage: Option<Box<Luggage>>,
}

/// How devices come, by label.
pub(crate) const TRANSPORTS: [&str; 6] = ["native", "ws", "ws_json", "tls", "wss", "wss_json"];

/// Lines of each transport.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineCounts {
    /// Now.
    pub(crate) present: [i64; TRANSPORTS.len()],
    pub(crate) opened: [u64; TRANSPORTS.len()],
    pub(crate) closed: [u64; TRANSPORTS.len()],
}

/// Its place among the [`TRANSPORTS`]; none while it is not decided.
pub(super) fn transport(kind: Kind, shield: Shield) -> Option<usize> {
    let kind = match kind {
        Kind::Native => 0,
        Kind::Binary => 1,
        Kind::Json => 2,
        Kind::Undecided | Kind::Request => return None,
    };
    Some(if shield == Shield::Plain { kind } else { kind + 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_go_to_another_thread() {
        fn goes<T: Send>() {}
        goes::<Line>();
    }
}
