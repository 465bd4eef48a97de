//! The device over each transport, against a small room on a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{Device, Event, Tls, Transport, device::Events};
use room::Room;
use rustls::{
    HandshakeKind, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;
use wire::{
    codec::{self, PREAMBLE},
    json,
    ws::{self, Format, Incoming, Opcode, Receiver, upgrade},
};

/// A room on a socket that speaks one transport; one connection at a time, cut when told.
#[derive(Clone)]
struct Served {
    transport: Transport,
    room: Arc<Mutex<Room>>,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    authority: String,
    poke: Arc<Notify>,
    cut: Arc<Notify>,
    /// What has been seen of each connection.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Served {
    async fn start(transport: Transport) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let certified = rcgen::generate_simple_self_signed(["room.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certified.cert.der().to_vec())], key)
            .unwrap();
        let served = Self {
            transport,
            room: Arc::default(),
            address: listener.local_addr().unwrap(),
            acceptor: Arc::new(config).into(),
            authority: certified.cert.pem(),
            poke: Arc::default(),
            cut: Arc::default(),
            seen: Arc::default(),
        };
        tokio::spawn(served.clone().accept(listener));
        served
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.room.lock().unwrap().accept();
            if self.transport.is_secure() {
                // A device that does not trust us breaks it off.
                let Ok(stream) = self.acceptor.accept(stream).await else { continue };
                self.note(match stream.get_ref().1.handshake_kind() {
                    Some(HandshakeKind::Resumed) => "resumed",
                    _ => "full handshake",
                });
                self.welcome(stream).await;
            } else {
                self.welcome(stream).await;
            }
        }
    }

    async fn welcome(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(format) = self.transport.format() else { return self.talk(stream, None).await };
        let mut bytes = Vec::new();
        let (request, len) = loop {
            stream.read_buf(&mut bytes).await.unwrap();
            if let Some(parsed) = upgrade::Request::parse(&bytes).unwrap() {
                break parsed;
            }
        };
        assert_eq!((len, request.format()), (bytes.len(), Ok(format)));
        self.note(request.cookie(upgrade::ROOM_COOKIE).map_or("no cookie", |_| "cookie"));
        let mut answer = upgrade::accept(&request, format, Some("longwire_room=7; HttpOnly"));
        // Right behind the answer, as a balancer may put it together.
        ws::frame_into(&mut answer, Opcode::Ping, b"are you there?");
        stream.write_all(&answer).await.unwrap();
        self.talk(stream, Some(format)).await;
    }

    async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, format: Option<Format>) {
        let mut receiver = Receiver::for_server(1 << 16);
        if format.is_some() {
            self.room.lock().unwrap().receive(&PREAMBLE);
        }
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(length) if length > 0 && format.is_none() => self.room.lock().unwrap().receive(&buffer[..length]),
                    Ok(length) if length > 0 => self.receive(&mut receiver, &buffer[..length]),
                    _ => return,
                },
                () = self.poke.notified() => {}
                () = self.cut.notified() => return,
            }
            let frames = std::mem::take(&mut self.room.lock().unwrap().down);
            let mut bytes = Vec::new();
            for frame in &frames {
                match format {
                    None => codec::encode_server_frame_into(frame, &mut bytes),
                    Some(Format::Json) => {
                        ws::frame_into(&mut bytes, Opcode::Text, &json::encode_server(frame));
                    }
                    Some(Format::Binary) => {
                        let encoded = codec::encode_server_frame(frame);
                        ws::frame_into(&mut bytes, Opcode::Binary, codec::messages(&encoded).next().unwrap());
                    }
                }
            }
            if stream.write_all(&bytes).await.and(stream.flush().await).is_err() {
                return;
            }
        }
    }

    fn receive(&self, receiver: &mut Receiver, mut input: &[u8]) {
        while let Some(incoming) = receiver.decode(&mut input).unwrap() {
            let frame = match incoming {
                Incoming::Binary(message) => codec::decode_client_frame(&message).unwrap(),
                Incoming::Text(message) => json::decode_client(&message).unwrap(),
                Incoming::Pong(payload) => {
                    assert_eq!(payload, "are you there?");
                    self.note("pong");
                    continue;
                }
                Incoming::Close(told) => {
                    assert_eq!(told, Some((1000, String::new())));
                    self.note("closed");
                    continue;
                }
                Incoming::Ping(_) => panic!("a device pings by its own frame"),
            };
            self.room.lock().unwrap().receive(&codec::encode_client_frame(&frame));
        }
    }

    fn append(&self, ids: impl IntoIterator<Item = u64>) {
        let mut room = self.room.lock().unwrap();
        ids.into_iter().for_each(|id| room.inbox.append(id));
        room.deliver();
        self.poke.notify_one();
    }

    fn note(&self, what: &str) {
        self.seen.lock().unwrap().push(what.to_owned());
    }

    fn seen(&self, what: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == what).count()
    }

    fn device(&self) -> client::device::Builder {
        let tls = Tls::with_roots(self.authority.as_bytes()).unwrap().server_name("room.example").unwrap();
        Device::builder("test")
            .address(&self.address.to_string())
            .transport(self.transport)
            .tls(tls)
            .token(|app, uid| async move { Ok(format!("{app}/{uid}")) })
    }
}

async fn bind(device: &Device) {
    device.bind("demo".parse().unwrap(), "alice".parse().unwrap(), []).await.unwrap();
}

async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    event.expect("an event within 20 s").expect("the device is open")
}

/// The ids of the next messages, with other events left out.
async fn messages(events: &mut Events, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let Event::Message(message) = next(events).await {
            ids.push(message.id.0);
        }
    }
    ids
}

/// Receives, is cut off, comes back, receives, and takes its leave.
async fn lives_over(transport: Transport) -> Served {
    let served = Served::start(transport).await;
    served.append(1..=3);
    let (device, mut events) = served.device().start().unwrap();
    bind(&device).await;
    assert_eq!(messages(&mut events, 3).await, [1, 2, 3], "{transport}");
    served.cut.notify_one();
    while !matches!(next(&mut events).await, Event::Disconnected(_)) {}
    served.append(4..=5);
    assert_eq!(messages(&mut events, 2).await, [4, 5], "{transport}");
    events.confirm_last();
    let saved = device.close().await;
    assert_eq!(saved.bindings[0].inbox.unwrap().seq.0, 5, "{transport}");
    // What the close acked may still be on its way to the room's task.
    while !served.room.lock().unwrap().inbox.entries.is_empty() {
        tokio::task::yield_now().await;
    }
    served
}

#[tokio::test]
async fn each_transport_carries_everything() {
    for transport in Transport::ALL {
        let served = lives_over(transport).await;
        if transport.is_secure() {
            assert_eq!((served.seen("full handshake"), served.seen("resumed")), (1, 1), "{transport}");
        }
        if transport.format().is_some() {
            assert_eq!((served.seen("no cookie"), served.seen("cookie")), (1, 1), "{transport}");
            while served.seen("closed") == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(served.seen("pong"), 2, "{transport}");
        }
    }
}

#[tokio::test]
async fn a_room_that_proves_nothing_is_not_spoken_to() {
    let served = Served::start(Transport::Tls).await;
    let other = Served::start(Transport::Tls).await;
    for tls in [
        Tls::with_roots(other.authority.as_bytes()).unwrap().server_name("room.example").unwrap(),
        Tls::with_roots(served.authority.as_bytes()).unwrap().server_name("other.example").unwrap(),
        // The address is no name of the certificate.
        Tls::with_roots(served.authority.as_bytes()).unwrap(),
    ] {
        let (device, mut events) = served.device().tls(tls).start().unwrap();
        bind(&device).await;
        let Event::Unreachable { reason } = next(&mut events).await else { panic!("it connected") };
        assert!(reason.contains("certificate"), "{reason}");
        drop(device);
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_told_and_its_wait_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (device, mut events) = Device::builder("test")
        .address(&listener.local_addr().unwrap().to_string())
        .transport("ws".parse().unwrap())
        .start()
        .unwrap();
    bind(&device).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let busy = upgrade::Refusal::Busy { retry_after: Duration::from_secs(3600) };
    stream.write_all(&busy.response()).await.unwrap();
    let Event::Unreachable { reason } = next(&mut events).await else { panic!("it connected") };
    assert!(reason.ends_with("the server answered 503"), "{reason}");
    let again = tokio::time::timeout(Duration::from_millis(1500), listener.accept()).await;
    assert!(again.is_err(), "it came back before it was to");
}

#[tokio::test]
async fn a_path_that_is_none_is_refused() {
    for path in ["", "push", "/a b", "/\r\nX: y"] {
        let built = Device::builder("test").address("h:1").websocket_path(path).start();
        assert!(matches!(built, Err(client::device::BuildError::BadPath(_))), "{path:?}");
    }
}
