//! TLS of one line, without a socket: records in, bytes out, and back.
//!
//! `rustls` leaves the buffers to whoever uses its unbuffered interface, so a line at rest has none: records are opened where
//! the thread has read them, and what is sealed lies in a buffer of the thread until the socket has taken it. Kept is the
//! beginning of a record whose end has not come.

use std::{fmt, sync::Arc};

use rustls::{
    Error, HandshakeKind, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    },
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
        let (mut start, mut opened) = (0, Opened::default());
        loop {
            let UnbufferedStatus { discard, state } = self.conn.process_tls_records(&mut records[start..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, sealed),
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
                Err(error) => {
                    self.encode(&mut records[start + discard..], sealed);
                    return Err(error);
                }
            }
            start += discard;
        }
        if was_shaking && !self.conn.is_handshaking() {
            opened.shaken = self.conn.handshake_kind();
        }
        if start < records.len() && !opened.over {
            self.partial = records[start..].to_vec();
        }
        Ok(opened)
    }

    /// What is left to say when the line has failed. Nothing is opened any more: that would fail again.
    fn encode(&mut self, records: &mut [u8], sealed: &mut Vec<u8>) {
        while self.conn.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.conn.process_tls_records(records).state
            else {
                return;
            };
            encode(&mut data, sealed);
        }
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
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, sealed),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, sealed: &mut Vec<u8>) {
    append(sealed, 0, |out| match data.encode(out) {
        Err(EncodeError::InsufficientSize(error)) => Err(error),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
        Ok(count) => Ok(count),
    });
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

#[cfg(test)]
mod tests {
    use rustls::{ALL_VERSIONS, AlertDescription, ClientConfig, ClientConnection};

    use super::*;
    use crate::event_loop::tests::peer::Certificate;

    fn client(config: Arc<ClientConfig>) -> ClientConnection {
        ClientConnection::new(config, "room.example".try_into().unwrap()).unwrap()
    }

    fn said(client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Opens what comes behind what is kept, `step` bytes at a time.
    fn hear(tls: &mut Tls, bytes: &[u8], step: usize) -> (Result<bool, Error>, Vec<u8>, Vec<u8>) {
        let (mut plain, mut sealed, mut shaken) = (Vec::new(), Vec::new(), false);
        for part in bytes.chunks(step) {
            let mut buffer = vec![0; 64 * 1024];
            let kept = tls.take_partial(&mut buffer).unwrap();
            buffer[kept..kept + part.len()].copy_from_slice(part);
            match tls.open(&mut buffer[..kept + part.len()], &mut plain, &mut sealed) {
                Ok(opened) => shaken |= opened.shaken.is_some(),
                Err(error) => return (Err(error), plain, sealed),
            }
        }
        (Ok(shaken), plain, sealed)
    }

    #[test]
    fn records_may_come_in_any_pieces_and_nothing_is_kept_between_them() {
        let certificate = Certificate::new();
        for step in [1, 7, 100, 100_000] {
            let mut tls = Tls::new(certificate.tls.server()).unwrap();
            let mut client = client(certificate.trust(ALL_VERSIONS));
            let mut shaken = false;
            while client.is_handshaking() || !shaken {
                let (result, _, sealed) = hear(&mut tls, &said(&mut client), step);
                shaken |= result.unwrap();
                client.read_tls(&mut &sealed[..]).unwrap();
                client.process_new_packets().unwrap();
            }
            assert_eq!(tls.held(), 0);
            std::io::Write::write_all(&mut client.writer(), &[5; 40_000]).unwrap();
            let (result, plain, sealed) = hear(&mut tls, &said(&mut client), step);
            assert_eq!((result, plain, sealed, tls.held()), (Ok(false), vec![5; 40_000], Vec::new(), 0));
            // What is kept of a record does no harm to what is said meanwhile.
            std::io::Write::write_all(&mut client.writer(), b"question").unwrap();
            let question = said(&mut client);
            assert_eq!(hear(&mut tls, &question[..9], step).0, Ok(false));
            let mut sealed = Vec::new();
            assert!(tls.seal(&[6; RECORD], &mut sealed));
            assert!(tls.seal(b"more", &mut sealed));
            tls.say_goodbye(&mut sealed);
            assert_eq!(hear(&mut tls, &question[9..], step).1, b"question");
            let (mut rest, mut answer) = (&sealed[..], Vec::new());
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
                let _ = std::io::Read::read_to_end(&mut client.reader(), &mut answer);
            }
            assert_eq!(answer, [&[6; RECORD][..], b"more"].concat());
        }
    }

    #[test]
    fn a_refusal_of_the_device_is_known_as_such() {
        let certificate = Certificate::new();
        let mut tls = Tls::new(certificate.tls.server()).unwrap();
        let mut client = client(Certificate::new().trust(ALL_VERSIONS));
        let (result, _, sealed) = hear(&mut tls, &said(&mut client), usize::MAX);
        assert_eq!(result, Ok(false));
        client.read_tls(&mut &sealed[..]).unwrap();
        client.process_new_packets().unwrap_err();
        let (result, ..) = hear(&mut tls, &said(&mut client), usize::MAX);
        // Both have the same name, so it is the signature that is found to be wrong.
        assert_eq!(result, Err(Error::AlertReceived(AlertDescription::DecryptError)));
    }

    #[test]
    fn what_is_no_tls_is_told_so() {
        let certificate = Certificate::new();
        for garbage in [vec![0x16, 3, 1, 0, 5, 99, 0, 0, 1, 0], vec![0x16; 30], vec![0x17, 3, 3, 0, 1, 1]] {
            let mut tls = Tls::new(certificate.tls.server()).unwrap();
            let (result, _, sealed) = hear(&mut tls, &garbage, usize::MAX);
            assert!(result.is_err());
            assert_eq!(sealed.first(), Some(&0x15), "an alert: {result:?}");
        }
    }
}
