//! TLS of one line, without a socket: records in, bytes out, and back.
//!
//! `rustls` leaves the buffers to whoever uses its unbuffered interface, so a line at rest has none: records are opened where
//! the thread has read them, and what is sealed lies in a buffer of the thread until the socket has taken it. Kept is the
//! beginning of a record whose end has not come.

use std::{fmt, sync::Arc};

use rustls::{
    Error, HandshakeKind, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus},
};

/// Bytes in one record. More at a time would be cut into several; what a slow reader's socket refuses stays sealed, so less
/// at a time is kept twice.
pub(super) const RECORD: usize = 16 * 1024;
/// Head, tag and kind of a record, with room for a change of keys before it.
const RECORD_EXTRA: usize = 256;

/// TLS of one line.
pub(super) struct Tls {
    conn: UnbufferedServerConnection,
    /// Beginning of what has not come whole.
    partial: Vec<u8>,
    /// There is something whole in it: it came when the thread had done enough handshakes.
    unseen: bool,
}

/// Keys are not for logs.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("held", &self.held()).finish_non_exhaustive()
    }
}

/// What opening records came to.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// With these records the handshake is through.
    pub(super) shaken: Option<HandshakeKind>,
    /// The peer has ended its side.
    pub(super) over: bool,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self { conn: UnbufferedServerConnection::new(config)?, partial: Vec::new(), unseen: false })
    }

    /// Bytes kept of what has not come whole.
    pub(super) fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Keeps what has come for later.
    pub(super) fn put_off(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        self.unseen = true;
    }

    /// Whether something waits that has not been looked at.
    pub(super) fn has_unseen(&self) -> bool {
        self.unseen
    }

    /// Moves what is kept to the front of the buffer into which the rest is read; gives how much it is. `None`: it does not
    /// fit, which no honest peer brings about.
    pub(super) fn take_partial(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let partial = std::mem::take(&mut self.partial);
        buffer.get_mut(..partial.len())?.copy_from_slice(&partial);
        Some(partial.len())
    }

    /// Keeps it again: nothing came that would make it whole.
    pub(super) fn put_back(&mut self, kept: &[u8]) {
        self.partial = kept.to_vec();
    }

    /// Opens records: what devices said is appended to `plain`, what TLS itself has to say to `sealed`.
    ///
    /// # Errors
    /// When the line cannot go on. `sealed` then has the alert that tells the peer.
    pub(super) fn open(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        self.unseen = false;
        let was_shaking = self.conn.is_handshaking();
        let (mut start, mut opened, mut failed) = (0, Opened::default(), None);
        loop {
            let UnbufferedStatus { discard, state } = self.conn.process_tls_records(&mut records[start..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(sealed, 0, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(error)) => Err(error),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                        Ok(count) => Ok(count),
                    });
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    opened.over = true;
                    break;
                }
                // Early data was not offered; the other two say that more has to come.
                Ok(_) => {
                    start += discard;
                    break;
                }
                // The first is the reason; then comes the alert, if there is one, and then the reason again.
                Err(error) => {
                    if let Some(first) = failed.replace(error) {
                        return Err(first);
                    }
                }
            }
            start += discard;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if was_shaking && !self.conn.is_handshaking() {
            opened.shaken = self.conn.handshake_kind();
        }
        if start < records.len() && !opened.over {
            self.partial = records[start..].to_vec();
        }
        Ok(opened)
    }

    /// Seals bytes: appended to `sealed`. `false`: nothing can be said on this line any more.
    pub(super) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> bool {
        self.send(plain, sealed)
    }

    /// The last words: nothing more will be said.
    pub(super) fn say_goodbye(&mut self, sealed: &mut Vec<u8>) {
        self.send(&[], sealed);
    }

    /// Seals bytes, or with none the end.
    fn send(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> bool {
        loop {
            // What is kept has been looked at and holds nothing whole; `rustls` wants to see it all the same, because it
            // remembers the places of what it has seen.
            let state = self.conn.process_tls_records(&mut self.partial).state;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let mut exhausted = false;
                    append(sealed, plain.len() + RECORD_EXTRA, |out| {
                        let result = if plain.is_empty() {
                            traffic.queue_close_notify(out)
                        } else {
                            traffic.encrypt(plain, out)
                        };
                        match result {
                            Err(EncryptError::InsufficientSize(error)) => Err(error),
                            Err(EncryptError::EncryptExhausted) => {
                                exhausted = true;
                                Ok(0)
                            }
                            Ok(count) => Ok(count),
                        }
                    });
                    return !exhausted;
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(sealed, 0, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(error)) => Err(error),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                        Ok(count) => Ok(count),
                    });
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

/// Lets `write` append to `out`, with as much room as it asks for.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, InsufficientSizeError>,
) {
    let start = out.len();
    out.resize(start + room, 0);
    loop {
        match write(&mut out[start..]) {
            Ok(count) => return out.truncate(start + count),
            Err(error) => out.resize(start + error.required_size, 0),
        }
    }
}
