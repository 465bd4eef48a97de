//! What is particular to WebSocket.

use rustls::ALL_VERSIONS;
use wire::{
    codec::encode_client_frame,
    frame::{ClientFrame, Connect, Ping, ServerBody},
    ws::{Format, Incoming, Opcode, header_into},
};

use super::{
    Room,
    one_port::{doors, room},
    peer::{Certificate, Peer, Way},
    setup,
};
use crate::event_loop::{Order, Setup, WebSocketDoor};

const BINARY: Way = Way::new(false, Some(Format::Binary));
const JSON: Way = Way::new(false, Some(Format::Json));

#[test]
fn a_request_that_is_none_for_a_websocket_is_answered() {
    let certificate = Certificate::new();
    let mut doors = doors(&certificate);
    let origins = Some(vec!["https://good.example".to_owned()]);
    doors.websocket = Some(WebSocketDoor { path: "/push".to_owned(), origins, cookie: Some(7) });
    let room = Room::start(Setup { doors, ..setup() });
    let good = Some("longwire.v1");
    for (path, protocol, more, status, words) in [
        ("/", good, "", 404, "nothing at this path"),
        ("/push", good, "Origin: https://bad.example\r\n", 403, "pages of this origin"),
        ("/push", Some("mqtt"), "", 400, "offer the subprotocol longwire.v1"),
        ("/push", None, "", 400, "offer the subprotocol"),
        ("/push", good, "Content-Length: 3\r\n", 400, "body"),
    ] {
        let mut peer = Peer::dial(room.address, None, false);
        peer.upgrade(path, protocol, more);
        assert!(peer.answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}", peer.answer);
        let body = String::from_utf8(peer.rest()).unwrap();
        assert!(body.contains(words), "{body}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(9_000));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: room\r\n\r\n", 426),
        ("GETTING / HTTP/1.1\r\nHost: room\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("G\r\n\r\n", 400),
        (&long, 431),
    ] {
        for chopped in [false, true] {
            let mut peer = Peer::dial(room.address, None, chopped);
            // The room may have heard enough before the end.
            let _ = peer.try_raw(request.as_bytes());
            if chopped && status == 431 {
                continue;
            }
            peer.hear_answer();
            assert!(peer.answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {}", peer.answer);
        }
    }
    room.count("all", |counts| {
        counts.entries.refused_upgrades.all().into_iter().map(|(_, count)| count).sum::<u64>() == 15
    });
    let mut peer = Peer::dial(room.address, None, false);
    peer.upgrade("/push?x=1", good, "Origin: https://good.example\r\n");
    assert!(peer.answer.starts_with("HTTP/1.1 101 "), "{}", peer.answer);
    room.stop();
}

#[test]
fn the_answer_names_the_room_in_a_cookie() {
    let (room, tls) = room(|_| ());
    let plain = Peer::open(room.address, BINARY, &tls);
    let cookie = "Set-Cookie: longwire_room=7; Path=/; HttpOnly; SameSite=";
    assert!(plain.answer.contains(&format!("{cookie}Lax\r\n")), "{}", plain.answer);
    let sealed = Peer::open(room.address, Way { sealed: true, ..JSON }, &tls);
    assert!(sealed.answer.contains(&format!("{cookie}None; Secure\r\n")), "{}", sealed.answer);
    let door = WebSocketDoor { path: "/".to_owned(), origins: None, cookie: None };
    room.order(Order::WebSocket(Some(Box::new(door))));
    while Peer::open(room.address, BINARY, &tls).answer.contains("Cookie") {}
    room.stop();
}

#[test]
fn fragments_and_pings_between_them() {
    let (room, tls) = room(|_| ());
    let mut peer = Peer::open(room.address, BINARY, &tls);
    let connect: ClientFrame = Connect { device: "d".into(), version: 1, ..Connect::default() }.into();
    let frame = &encode_client_frame(&connect)[1..];
    let masked = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    };
    peer.raw(&masked(0x02, &frame[..1]));
    peer.raw(&masked(0x89, b"are you there?"));
    peer.raw(&masked(0x00, b""));
    peer.raw(&masked(0x8A, b"nobody asked"));
    assert_eq!(peer.incoming(), Some(Incoming::Pong("are you there?".into())));
    peer.raw(&masked(0x80, &frame[1..]));
    assert!(matches!(peer.next(), ServerBody::Connected(_)));
    room.stop();
}

#[test]
fn what_is_wrong_is_told_by_its_code() {
    let (room, tls) = room(|_| ());
    let ping = encode_client_frame(&Ping {}.into())[1..].to_vec();
    let unmasked = {
        let mut bytes = Vec::new();
        header_into(&mut bytes, Opcode::Binary, 2);
        bytes.extend_from_slice(&ping);
        bytes
    };
    let masked = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, 0x80 | 126, (payload.len() >> 8) as u8, payload.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    };
    for (way, bytes, code) in [
        (BINARY, unmasked, 1002),
        (BINARY, vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (BINARY, vec![0xC2, 0x80, 0, 0, 0, 0], 1002),
        (BINARY, masked(0x81, b"{}"), 1003),
        (JSON, masked(0x82, &ping), 1003),
        (JSON, masked(0x81, b"\xff"), 1007),
        (JSON, masked(0x81, b"{ping"), 1007),
        (BINARY, masked(0x82, b"\xff\xff\xff"), 1007),
        (BINARY, masked(0x82, &[0; 5_000]), 1009),
        (JSON, masked(0x81, &[b' '; 10_000]), 1009),
    ] {
        for way in [way, Way { sealed: true, ..way }] {
            let mut peer = Peer::connected(room.address, way, &tls);
            peer.raw(&bytes);
            assert_eq!(peer.read(), None, "{way:?} {code}");
            assert_eq!(peer.closed, Some(code), "{way:?}");
        }
    }
    room.stop();
}

#[test]
fn a_close_is_answered() {
    let certificate = Certificate::new();
    let mut room = Room::start(Setup { doors: doors(&certificate), ..setup() });
    let tls = certificate.trust(ALL_VERSIONS);
    for (number, way) in [BINARY, JSON, Way { sealed: true, ..BINARY }].into_iter().enumerate() {
        let uid = format!("u{number}");
        let mut peer = room.bound_peer(way, &tls, &uid);
        peer.send_ws(Opcode::Close, &1000u16.to_be_bytes());
        assert_eq!(peer.read(), None);
        assert_eq!(peer.closed, Some(1000));
        // It has left; nobody waits for it to come again.
        assert_eq!(room.asks.ends.blocking_recv().unwrap()[0].uid.as_str(), uid);
    }
    let mut peer = Peer::connected(room.address, BINARY, &tls);
    peer.send_ws(Opcode::Close, b"");
    assert_eq!(peer.incoming(), Some(Incoming::Close(None)));
    room.stop();
}
