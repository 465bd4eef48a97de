//! TLS of a device, without buffers at rest: rustls' unbuffered connection decrypts where the bytes were read, and only
//! the beginning of a record whose end has not come is kept.

mod trust;

use std::sync::Arc;

use rustls::{
    ClientConfig, HandshakeKind,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

pub(super) use trust::Client;

/// A TLS connection.
pub(super) struct Tls {
    connection: UnbufferedClientConnection,
    /// Bytes from the network that are no whole record yet.
    held: Vec<u8>,
}

/// What came of bytes from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake goes on.
    Handshake,
    /// Frames may be sent.
    Open,
    /// The other side has said that it sends nothing more.
    Closed,
}

impl Tls {
    /// Nothing is sent yet; [`receive`](Self::receive) nothing to begin.
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        Ok(Self { connection: UnbufferedClientConnection::new(config, name)?, held: Vec::new() })
    }

    /// How the handshake went, once it is done.
    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes what came; adds to `plain` what it says and to `out` what is to be sent.
    pub(super) fn receive(
        &mut self,
        came: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Stage, rustls::Error> {
        if self.held.is_empty() {
            let (used, stage) = self.process(came, plain, out)?;
            if used < came.len() {
                self.held = came[used..].to_vec();
            }
            return Ok(stage);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(came);
        let (used, stage) = self.process(&mut all, plain, out)?;
        if used < all.len() {
            all.drain(..used);
            self.held = all;
        }
        Ok(stage)
    }

    /// Adds to `out` what says `plain` in TLS. For use once the connection is open.
    pub(super) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if plain.is_empty() {
            return Ok(());
        }
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        match state? {
            ConnectionState::WriteTraffic(mut traffic) => append(
                out,
                |room| traffic.encrypt(plain, room),
                |error| match error {
                    EncryptError::InsufficientSize(size) => Ok(size.required_size),
                    EncryptError::EncryptExhausted => Err(rustls::Error::EncryptError),
                },
            ),
            _ => Err(rustls::Error::HandshakeNotComplete),
        }
    }

    fn process(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Stage), rustls::Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut input[used..]);
            let reached = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(
                        out,
                        |room| data.encode(room),
                        |error| match error {
                            EncodeError::InsufficientSize(size) => Ok(size.required_size),
                            EncodeError::AlreadyEncoded => Err(rustls::Error::EncryptError),
                        },
                    )?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    // It is in `out`, which the caller sends before anything else.
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(Stage::Handshake),
                ConnectionState::WriteTraffic(_) => Some(Stage::Open),
                _ => Some(Stage::Closed),
            };
            used += discard;
            if let Some(stage) = reached {
                return Ok((used, stage));
            }
        }
    }
}

/// Lets `write` write to the end of `out`, with as much room as it says that it needs.
fn append<E>(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    needs: impl Fn(E) -> Result<usize, rustls::Error>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    let mut room = 0;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(error) => room = needs(error)?,
        }
    }
}
