//! Every transport on the same port.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use rustls::{ALL_VERSIONS, ClientConfig};
use wire::{
    codec::encode_client_frame,
    frame::{Ack, CloseCode, Connect, Ping, ServerBody, Up},
    id::Seq,
};

use super::{
    Room, bind, item, log,
    peer::{Certificate, PATIENCE, Peer, Way},
    setup,
};
use crate::{
    event_loop::{Counts, Doors, Order, Setup, TRANSPORTS, WebSocketDoor},
    exchange::Delivery,
    session::Limits,
};

pub(super) fn doors(certificate: &Certificate) -> Doors {
    let websocket = WebSocketDoor { path: "/".to_owned(), origins: None, cookie: Some(7) };
    Doors { tls: Some(certificate.tls.clone()), websocket: Some(websocket) }
}

/// A room with every door, and a device's trust in it.
pub(super) fn room(change: impl FnOnce(&mut Setup)) -> (Room, Arc<ClientConfig>) {
    let certificate = Certificate::new();
    let mut setup = Setup { doors: doors(&certificate), ..setup() };
    change(&mut setup);
    (Room::start(setup), certificate.trust(ALL_VERSIONS))
}

impl Room {
    /// Waits until something has been counted.
    pub(super) fn count(&self, what: &str, holds: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.thread.status().counts();
            if holds(&counts) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", counts.entries);
            std::thread::yield_now();
        }
    }

    pub(super) fn bound_peer(&mut self, way: Way, tls: &Arc<ClientConfig>, uid: &str) -> Peer {
        let mut peer = Peer::connected(self.address, way, tls);
        peer.send(bind(uid));
        self.answer_bind(uid, 0);
        assert!(matches!(peer.next(), ServerBody::Bound(_)), "{way:?}");
        peer
    }
}

#[test]
fn every_transport_carries_the_same() {
    let (mut room, tls) = room(|_| ());
    let ways = Way::ALL.into_iter().flat_map(|way| [way, Way { chopped: true, ..way }]);
    let mut peers: Vec<(Way, Peer)> = Vec::new();
    for (number, way) in ways.enumerate() {
        let uid = format!("u{number}");
        let mut peer = room.bound_peer(way, &tls, &uid);
        assert_eq!(room.deliver(vec![item(&uid, 1), item(&uid, 2)]), [Delivery::Sent, Delivery::Sent]);
        for seq in 1..=2 {
            let ServerBody::Push(push) = peer.next() else { panic!("no push: {way:?}") };
            assert_eq!((push.seq, push.payload), (seq, Bytes::from(format!("message {seq}"))));
        }
        peer.send(Ack { binding: 1, seq: 2, epoch: 1, ..Ack::default() });
        let acks = room.asks.acks.blocking_recv().unwrap();
        assert_eq!((acks.len(), acks[0].inbox.seq), (1, Seq(2)), "{way:?}");
        let payload = Bytes::from(vec![number as u8; 3_000]);
        peer.send(Up { binding: 1, kind: "k".into(), payload: payload.clone(), r#ref: 5 });
        assert_eq!(room.asks.ups.blocking_recv().unwrap()[0].payload, payload, "{way:?}");
        // Many at once.
        let pings: Vec<u8> = (0..300).flat_map(|_| peer.encode(&Ping {}.into())).collect();
        peer.raw(&pings);
        for _ in 0..300 {
            assert!(matches!(peer.next(), ServerBody::Pong(_)), "{way:?}");
        }
        peers.push((way, peer));
    }
    // Lengths around every place where heads, prefixes and copies change.
    let lengths = [1, 90, 100, 110, 120, 130, 470, 480, 500, 16_350, 16_370, 16_390, 65_500, 65_520, 300_000];
    for (bseq, length) in (1..).zip(lengths) {
        room.order(Order::Log(log(bseq - 1, bseq, length)));
        for (way, peer) in &mut peers {
            let ServerBody::Broadcast(broadcast) = peer.next() else { panic!("no broadcast: {way:?}") };
            assert_eq!((broadcast.bseq, broadcast.payload.len()), (bseq, length), "{way:?}");
            assert!(broadcast.payload.iter().all(|byte| *byte == b'x'), "{way:?}");
        }
    }
    // Several at once.
    let last = lengths.len() as u64;
    room.order(Order::Log(log(last, last + 5, 200)));
    for (way, peer) in &mut peers {
        for bseq in last + 1..=last + 5 {
            let ServerBody::Broadcast(broadcast) = peer.next() else { panic!("no broadcast: {way:?}") };
            assert_eq!((broadcast.bseq, broadcast.payload.len()), (bseq, 200), "{way:?}");
        }
    }
    room.count("every transport has two", |counts| counts.entries.lines.present == [2; TRANSPORTS.len()]);
    drop(peers);
    room.count("and none", |counts| {
        let lines = &counts.entries.lines;
        lines.present == [0; TRANSPORTS.len()] && lines.closed == [2; TRANSPORTS.len()]
    });
    room.stop();
}

/// Broadcasts of 20 MB in all for a device that does not read: what waits for it stays within its bound, another device has
/// everything at once, and when the slow one reads it gets everything, in order.
#[test]
fn slow_readers_catch_up_on_every_transport() {
    const COUNT: u64 = 800;
    const PAYLOAD: usize = 20_000;
    for way in Way::ALL {
        let (mut room, tls) = room(|_| ());
        let mut slow = room.bound_peer(way, &tls, "slow");
        let mut quick = room.bound("quick", 0);
        let mut most = 0;
        for bseq in 1..=COUNT {
            room.order(Order::Log(log(bseq - 1, bseq, PAYLOAD)));
            let ServerBody::Broadcast(broadcast) = quick.next() else { panic!("no broadcast") };
            assert_eq!(broadcast.bseq, bseq);
            most = most.max(room.thread.status().waiting_bytes.load(Ordering::Relaxed));
        }
        assert!(most > 0, "the kernel took everything: the test proves nothing");
        // One frame may be over the bound, and as text it is longer by a third; a record may be sealed besides.
        assert!(most <= 64 * 1024 + 2 * PAYLOAD as u64, "{most} bytes waited: {way:?}");
        let mut pages = room.asks.pages;
        let thread = room.thread.clone();
        let reader = std::thread::spawn(move || {
            for bseq in 1..=COUNT {
                let ServerBody::Broadcast(broadcast) = slow.next() else { panic!("no broadcast") };
                assert_eq!((broadcast.bseq, broadcast.payload.len()), (bseq, PAYLOAD));
            }
        });
        while !reader.is_finished() {
            match pages.try_recv() {
                Ok(batch) => {
                    for ask in batch {
                        let through = (ask.after + 50).min(COUNT);
                        thread.try_send(Order::Page(log(ask.after, through, PAYLOAD))).unwrap();
                    }
                }
                Err(_) => std::thread::yield_now(),
            }
        }
        reader.join().unwrap();
        room.thread.try_send(Order::Stop { now: true }).unwrap();
        room.joined.take().unwrap().join().unwrap();
    }
}

#[test]
fn who_is_closed_hears_why_on_every_transport() {
    let (room, tls) = room(|_| ());
    for way in Way::ALL {
        let mut peer = Peer::open(room.address, way, &tls);
        peer.send(Ping {});
        let ServerBody::Close(close) = peer.next() else { panic!("no close: {way:?}") };
        assert_eq!(
            (close.code(), &close.message[..]),
            (CloseCode::BadFrame, "the first frame must be Connect")
        );
        assert!(peer.read().is_none(), "and then the end: {way:?}");
        assert_eq!(peer.closed, way.websocket.map(|_| 4003), "{way:?}");
    }
    room.stop();
}

#[test]
fn strangers_are_closed_and_counted() {
    let (with_all, tls) = room(|_| ());
    let mut peer = Peer::dial(with_all.address, None, false);
    peer.raw(b"SSH-2.0-OpenSSH_9.9\r\n");
    let ServerBody::Close(close) = peer.next() else { panic!("no close") };
    assert_eq!(close.code(), CloseCode::BadFrame);
    let mut peer = Peer::dial(with_all.address, Some(Arc::clone(&tls)), false);
    peer.raw(&[0x16, 3, 1, 0, 200, 1]);
    assert!(matches!(peer.next(), ServerBody::Close(_)));
    let mut peer = Peer::dial(with_all.address, Some(tls), false);
    peer.raw(b"\0\0\0\0");
    assert!(matches!(peer.next(), ServerBody::Close(_)));
    let mut peer = Peer::dial(with_all.address, None, false);
    peer.raw(b"LX");
    assert!(matches!(peer.next(), ServerBody::Close(_)));
    with_all.count("four strangers", |counts| {
        counts.entries.strangers.all() == [("bad_preamble", 1), ("tls_in_tls", 1), ("unknown", 2)]
    });
    with_all.stop();

    let (with_none, tls) = room(|setup| setup.doors = Doors::default());
    let mut peer = Peer::dial(with_none.address, Some(tls), false);
    assert!(peer.try_raw(b"LW\x01").is_err());
    let mut peer = Peer::dial(with_none.address, None, false);
    peer.raw(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(peer.next(), ServerBody::Close(_)));
    with_none
        .count("two more", |counts| counts.entries.strangers.all() == [("tls_off", 1), ("websocket_off", 1)]);
    with_none.stop();
}

/// Whoever opens a connection and then says nothing, or half of something, is gone after the time for handshakes.
#[test]
fn half_open_handshakes_time_out() {
    let (room, tls) = room(|setup| setup.limits = Limits { handshake_ms: 300, ..Limits::default() });
    let mut hello = Vec::new();
    let name = "room.example".try_into().unwrap();
    let mut conn = rustls::ClientConnection::new(tls.clone(), name).unwrap();
    conn.write_tls(&mut hello).unwrap();
    let connect = encode_client_frame(&Connect { device: "d".into(), ..Connect::default() }.into());
    let beginnings = [
        b"".to_vec(),
        b"LW".to_vec(),
        [b"LW\x01", &connect[..connect.len() - 1]].concat(),
        b"GET / HTTP/1.1\r\nHost".to_vec(),
        vec![0x16],
        hello[..hello.len() - 1].to_vec(),
        hello,
    ];
    for beginning in beginnings {
        let mut stream = TcpStream::connect(room.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&beginning).unwrap();
        let began = Instant::now();
        // Perhaps it is told something; in the end it is closed.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        assert!(began.elapsed() < PATIENCE, "{beginning:?}");
    }
    for way in Way::ALL {
        let mut peer = Peer::open(room.address, way, &tls);
        let ServerBody::Close(close) = peer.next() else { panic!("no close: {way:?}") };
        assert_eq!(close.code(), CloseCode::HandshakeTimeout, "{way:?}");
    }
    room.count("all are gone", |counts| counts.tally.opened == counts.tally.closed);
    assert_eq!(room.thread.status().connections.load(Ordering::Relaxed), 0);
    room.stop();
}

#[test]
fn what_is_held_is_given_back_on_every_transport() {
    let (room, tls) = room(|setup| setup.partial_bytes = 60_000);
    for way in Way::ALL {
        for _ in 0..100 {
            let mut peer = Peer::connected(room.address, way, &tls);
            let whole = peer.encode(&Up { payload: vec![1; 2_000].into(), ..Up::default() }.into());
            peer.raw(&whole[..1_500]);
            peer.send_half_record();
            peer.hang_up();
        }
    }
    // Had they left anything, this would be over the bound.
    for way in Way::ALL {
        let mut peer = Peer::connected(room.address, way, &tls);
        let ping = peer.encode(&Ping {}.into());
        let up = peer.encode(&Up { payload: vec![1; 3_900].into(), ..Up::default() }.into());
        peer.raw(&[&ping[..], &up[..3_000]].concat());
        assert!(matches!(peer.next(), ServerBody::Pong(_)), "{way:?}");
        peer.raw(&up[3_000..]);
        peer.raw(&ping);
        // No such binding; then the answer to the ping.
        while !matches!(peer.next(), ServerBody::Pong(_)) {}
    }
    assert_eq!(room.thread.status().counts().partial_shed, 0);
    room.stop();
}
