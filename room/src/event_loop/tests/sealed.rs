//! What is particular to TLS.

use std::{io::Write as _, net::TcpStream, sync::Arc, time::Duration};

use rustls::{
    ALL_VERSIONS, ClientConfig, HandshakeKind,
    version::{TLS12, TLS13},
};
use tokio_util::sync::CancellationToken;
use wire::frame::{Ping, ServerBody};

use super::{
    Room,
    one_port::{doors, room},
    peer::{Certificate, Peer, Way},
    setup,
};
use crate::event_loop::Setup;

const SEALED: Way = Way::new(true, None);

fn results(room: &Room) -> Vec<(&'static str, u64)> {
    room.thread.status().counts().entries.handshakes.all()
}

#[test]
fn a_ticket_resumes() {
    for version in [&TLS12, &TLS13] {
        let certificate = Certificate::new();
        let room = Room::start(Setup { doors: doors(&certificate), ..setup() });
        let tls = certificate.trust(&[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            // With TLS 1.3 the ticket comes after the handshake, before the first answer.
            let peer = Peer::connected(room.address, SEALED, &tls);
            assert_eq!(peer.handshake_kind(), Some(kind), "{version:?}");
        }
        room.count("all are counted", |counts| {
            counts.entries.handshakes.all() == [("full", 1), ("resumed", 2)]
        });
        room.stop();
    }
}

#[test]
fn new_certificates_are_for_new_connections_and_tickets_outlive_them() {
    let certificate = Certificate::new();
    let room = Room::start(Setup { doors: doors(&certificate), ..setup() });
    let before = certificate.trust(ALL_VERSIONS);
    let mut old = Peer::connected(room.address, SEALED, &before);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (ask, asked) = tokio::sync::watch::channel(0);
    let cancel = CancellationToken::new();
    certificate.replace();
    runtime.block_on(async {
        let follow = tokio::spawn(certificate.tls.clone().follow(asked, cancel.clone()));
        ask.send_modify(|n| *n += 1);
        while certificate.tls.reloads() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
        follow.await.unwrap();
    });

    let after = certificate.trust(ALL_VERSIONS);
    Peer::connected(room.address, SEALED, &after);
    old.send(Ping {});
    assert!(matches!(old.next(), ServerBody::Pong(_)), "who is there stays");
    // Its ticket still counts, although it would not trust the new certificate.
    let again = Peer::connected(room.address, SEALED, &before);
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
    let stranger = Certificate::new().trust(ALL_VERSIONS);
    let mut peer = Peer::dial(room.address, Some(stranger), false);
    assert!(peer.try_raw(b"LW\x01").is_err(), "another certificate is not trusted");
    room.count("the device's refusal", |counts| {
        counts
            .entries
            .handshakes
            .all()
            .into_iter()
            .any(|(result, count)| result == "refused_by_device" && count == 1)
    });
    room.stop();
}

#[test]
fn what_looks_like_tls_and_is_none_is_told_and_counted() {
    let (room, _) = room(|_| ());
    let mut peer = Peer::dial(room.address, None, false);
    peer.raw(&[0x16, 3, 1, 0, 5, 99, 0, 0, 1, 0]);
    let answer = peer.rest();
    assert_eq!(answer[..3], [0x15, 3, 3], "an alert");
    let mut stream = TcpStream::connect(room.address).unwrap();
    stream.write_all(&[0x16, 3, 1, 0, 40, 1]).unwrap();
    drop(stream);
    room.count("both", |counts| counts.entries.handshakes.all() == [("left", 1), ("not_tls", 1)]);
    room.stop();
}

/// Only so many handshakes go on in a turn; all of them come through all the same.
#[test]
fn a_storm_of_handshakes_comes_through() {
    const DEVICES: usize = 100;
    let (room, tls) = room(|_| ());
    let address = room.address;
    let devices: Vec<_> = (0..DEVICES)
        .map(|_| {
            let tls: Arc<ClientConfig> = Arc::clone(&tls);
            std::thread::spawn(move || {
                let mut peer = Peer::connected(address, SEALED, &tls);
                peer.send(Ping {});
                assert!(matches!(peer.next(), ServerBody::Pong(_)));
            })
        })
        .collect();
    for device in devices {
        device.join().unwrap();
    }
    room.count("all", |counts| {
        counts.entries.handshakes.all().into_iter().map(|(_, count)| count).sum::<u64>() == DEVICES as u64
    });
    assert!(
        results(&room).iter().all(|(result, _)| matches!(*result, "full" | "resumed")),
        "{:?}",
        results(&room)
    );
    room.stop();
}
