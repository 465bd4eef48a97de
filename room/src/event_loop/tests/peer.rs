//! A device of any transport, with its own code for TLS and WebSocket: blocking, and able to send byte by byte.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use wire::{
    ClientDecoder,
    codec::{PREAMBLE, decode_server_frame, encode_client_frame, encoded_prefix_len},
    frame::{ClientFrame, Connect, ServerBody, ServerFrame},
    json,
    ws::{self, Format, Incoming, Opcode},
};

use cluster::{PublicFiles, PublicTls};

pub(in crate::event_loop) const PATIENCE: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [7, 77, 177, 250];

/// How a device comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event_loop) struct Way {
    pub(in crate::event_loop) sealed: bool,
    pub(in crate::event_loop) websocket: Option<Format>,
    /// Every byte is sent by itself.
    pub(in crate::event_loop) chopped: bool,
}

impl Way {
    pub(in crate::event_loop) const fn new(sealed: bool, websocket: Option<Format>) -> Self {
        Self { sealed, websocket, chopped: false }
    }

    pub(in crate::event_loop) const ALL: [Self; 6] = [
        Self::new(false, None),
        Self::new(false, Some(Format::Binary)),
        Self::new(false, Some(Format::Json)),
        Self::new(true, None),
        Self::new(true, Some(Format::Binary)),
        Self::new(true, Some(Format::Json)),
    ];
}

/// A certificate in a folder, and who trusts it.
pub(in crate::event_loop) struct Certificate {
    folder: PathBuf,
    pub(in crate::event_loop) tls: PublicTls,
    _made: Option<TempDir>,
}

impl Certificate {
    pub(in crate::event_loop) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        write_certificate(folder.path());
        let certificate = Self::at(folder.path());
        Self { _made: Some(folder), ..certificate }
    }

    /// The one that lies in a folder.
    pub(in crate::event_loop) fn at(folder: &Path) -> Self {
        let files = PublicFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        Self { tls: PublicTls::open(files, true).unwrap(), folder: folder.to_owned(), _made: None }
    }

    pub(in crate::event_loop) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts another in its place.
    pub(in crate::event_loop) fn replace(&self) {
        write_certificate(&self.folder);
    }

    /// A device that trusts what lies there now.
    pub(in crate::event_loop) fn trust(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(self.folder.join("cert.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn write_certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["room.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// A socket that may send every byte by itself.
pub(in crate::event_loop) struct Chopper {
    pub(in crate::event_loop) stream: TcpStream,
    chopped: bool,
}

impl Read for Chopper {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Chopper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = if self.chopped { bytes.len().min(1) } else { bytes.len() };
        self.stream.write(&bytes[..count])
    }

    /// Without it an alert would stay behind the record before it: the last gasp of a client is one write.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.chopped {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.write(first.map_or(&[], |slice| slice));
        }
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Stream {
    Plain(Chopper),
    Sealed(Box<StreamOwned<ClientConnection, Chopper>>),
}

/// A device.
pub(in crate::event_loop) struct Peer {
    stream: Stream,
    websocket: Option<(Format, ws::Receiver)>,
    decoder: ClientDecoder,
    bytes: Vec<u8>,
    /// The WebSocket's close code, once it has come.
    pub(in crate::event_loop) closed: Option<u16>,
    /// The answer to the request for a WebSocket.
    pub(in crate::event_loop) answer: String,
}

impl Peer {
    /// A connection on which nothing of the protocol has been said.
    pub(in crate::event_loop) fn dial(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        chopped: bool,
    ) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let stream = Chopper { stream, chopped };
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from("room.example").unwrap();
                let conn = ClientConnection::new(config, name).unwrap();
                Stream::Sealed(Box::new(StreamOwned::new(conn, stream)))
            }
        };
        let decoder = ClientDecoder::for_client(1 << 20);
        Self { stream, websocket: None, decoder, bytes: Vec::new(), closed: None, answer: String::new() }
    }

    /// A connection of this way, up to where frames can be sent.
    pub(in crate::event_loop) fn open(address: SocketAddr, way: Way, tls: &Arc<ClientConfig>) -> Self {
        let mut peer = Self::dial(address, way.sealed.then(|| Arc::clone(tls)), way.chopped);
        match way.websocket {
            None => peer.raw(&PREAMBLE),
            Some(format) => {
                peer.upgrade("/", Some(format.subprotocol()), "");
                assert!(peer.answer.starts_with("HTTP/1.1 101 "), "{}", peer.answer);
            }
        }
        peer
    }

    /// Asks for a WebSocket and takes the answer.
    pub(in crate::event_loop) fn upgrade(&mut self, path: &str, protocol: Option<&str>, more: &str) {
        let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: room.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}{more}\r\n"
        );
        self.raw(request.as_bytes());
        self.hear_answer();
        let format = self
            .answer
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "))
            .and_then(Format::of_subprotocol);
        self.websocket = format.map(|format| (format, ws::Receiver::for_client(2 << 20)));
    }

    /// Takes an answer of HTTP.
    pub(in crate::event_loop) fn hear_answer(&mut self) {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.receive(), "the answer ends early: {}", String::from_utf8_lossy(&self.bytes));
        };
        let rest = self.bytes.split_off(end);
        self.answer = String::from_utf8(std::mem::replace(&mut self.bytes, rest)).unwrap();
    }

    pub(in crate::event_loop) fn connected(address: SocketAddr, way: Way, tls: &Arc<ClientConfig>) -> Self {
        let mut peer = Self::open(address, way, tls);
        peer.send(Connect { device: "d".into(), version: 1, ..Connect::default() });
        assert!(matches!(peer.next(), ServerBody::Connected(_)), "{way:?}");
        peer
    }

    /// Sends bytes as they are, within TLS if there is any.
    pub(in crate::event_loop) fn raw(&mut self, bytes: &[u8]) {
        self.try_raw(bytes).unwrap();
    }

    pub(in crate::event_loop) fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Sealed(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends the beginning of a record, if there is TLS.
    pub(in crate::event_loop) fn send_half_record(&mut self) {
        if let Stream::Sealed(stream) = &mut self.stream {
            stream.sock.write_all(&[0x17, 3, 3, 4, 0, 1, 2, 3]).unwrap();
        }
    }

    pub(in crate::event_loop) fn send(&mut self, frame: impl Into<ClientFrame>) {
        let bytes = self.encode(&frame.into());
        self.raw(&bytes);
    }

    pub(in crate::event_loop) fn encode(&self, frame: &ClientFrame) -> Vec<u8> {
        let native = encode_client_frame(frame);
        let mut out = Vec::new();
        match &self.websocket {
            None => out.extend_from_slice(&native),
            Some((Format::Binary, _)) => {
                ws::masked_into(&mut out, Opcode::Binary, &native[encoded_prefix_len(native.len())..], MASK);
            }
            Some((Format::Json, _)) => {
                ws::masked_into(&mut out, Opcode::Text, &json::encode_client(frame), MASK);
            }
        }
        out
    }

    /// Sends a frame of WebSocket.
    pub(in crate::event_loop) fn send_ws(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut out = Vec::new();
        ws::masked_into(&mut out, opcode, payload, MASK);
        self.raw(&out);
    }

    /// Takes what has come; `false` at the end.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut buffer),
            Stream::Sealed(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing came"),
            Err(_) => false,
        }
    }

    /// The next message or control frame of a WebSocket.
    pub(in crate::event_loop) fn incoming(&mut self) -> Option<Incoming> {
        loop {
            let (_, receiver) = self.websocket.as_mut().expect("a WebSocket");
            let mut input = &self.bytes[..];
            let incoming = receiver.decode(&mut input).unwrap();
            let used = self.bytes.len() - input.len();
            self.bytes.drain(..used);
            if incoming.is_some() {
                return incoming;
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    pub(in crate::event_loop) fn read(&mut self) -> Option<ServerBody> {
        let Some((format, _)) = self.websocket else { return self.read_native() };
        loop {
            let frame: ServerFrame = match self.incoming()? {
                Incoming::Binary(bytes) if format == Format::Binary => decode_server_frame(bytes).unwrap(),
                Incoming::Text(bytes) if format == Format::Json => json::decode_server(&bytes).unwrap(),
                Incoming::Close(why) => {
                    self.closed = why.map(|(code, _)| code);
                    continue;
                }
                other => panic!("{other:?}"),
            };
            return frame.body;
        }
    }

    fn read_native(&mut self) -> Option<ServerBody> {
        loop {
            let mut input = &self.bytes[..];
            let frame = self.decoder.decode(&mut input).unwrap();
            let used = self.bytes.len() - input.len();
            self.bytes.drain(..used);
            if let Some(frame) = frame {
                return frame.body;
            }
            if !self.receive() {
                return None;
            }
        }
    }

    pub(in crate::event_loop) fn next(&mut self) -> ServerBody {
        self.read().expect("the connection goes on")
    }

    /// What else comes, and then the end.
    pub(in crate::event_loop) fn rest(&mut self) -> Vec<u8> {
        while self.receive() {}
        std::mem::take(&mut self.bytes)
    }

    pub(in crate::event_loop) fn handshake_kind(&self) -> Option<HandshakeKind> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Sealed(stream) => stream.conn.handshake_kind(),
        }
    }

    pub(in crate::event_loop) fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => &stream.stream,
            Stream::Sealed(stream) => &stream.sock.stream,
        }
    }

    pub(in crate::event_loop) fn hang_up(&self) {
        self.socket().shutdown(Shutdown::Both).unwrap();
    }
}
