//! Staging, merging, refusing, catching up: against a real socket pair.

use std::io::Read as _;

use bytes::Bytes;

use super::*;
use crate::session::{Class, Outlet};

const BOUNDS: Bounds = Bounds { connection: 1_000, reserve: 100, thread: 10_000_000 };

fn pair(bounds: Bounds) -> (Outbox, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut outbox = Outbox::new(bounds);
    outbox.insert(3, TcpStream::from_std(stream));
    outbox.decide(3, Kind::Native);
    (outbox, peer)
}

fn write(outbox: &mut Outbox, bytes: &[u8], class: Class) -> bool {
    outbox.write(3, bytes.len(), class, |buffer| buffer.extend_from_slice(bytes))
}

fn read(peer: &mut std::net::TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_turn_is_one_write_in_order() {
    let (mut outbox, mut peer) = pair(BOUNDS);
    assert!(write(&mut outbox, b"one ", Class::Data));
    assert!(write(&mut outbox, b"two ", Class::Data));
    assert!(outbox.share(3, &Bytes::from_static(b"three "), Class::Data));
    assert!(write(&mut outbox, b"four", Class::Control));
    assert_eq!(outbox.pieces.len(), 3, "what was built in a row is one piece");
    outbox.flush();
    assert_eq!(outbox.writes, 1);
    assert_eq!(read(&mut peer, 18), b"one two three four");
    assert!(!outbox.is_busy(3));
    assert_eq!(outbox.sockets[3].pending, 0);
}

#[test]
fn the_bound_is_for_what_waits() {
    let (mut outbox, _peer) = pair(BOUNDS);
    assert!(write(&mut outbox, &[0; 1_500], Class::Data), "one frame may be larger");
    assert!(!write(&mut outbox, &[0; 1], Class::Data));
    outbox.flush();
    assert_eq!(outbox.take_drained(), [3], "who was refused is told of room");
    assert!(write(&mut outbox, &[0; 600], Class::Data));
    assert!(!write(&mut outbox, &[0; 600], Class::Data));
    assert!(write(&mut outbox, &[0; 400], Class::Control));
    assert!(write(&mut outbox, &[0; 100], Class::Control), "the reserve");
    assert!(write(&mut outbox, &[0; 5_000], Class::Page), "its size was bounded when it was asked for");
    assert!(!write(&mut outbox, &[0; 1], Class::Control));
    assert_eq!(outbox.take_dead(), [3], "even the reserve is used up");
    assert_eq!(outbox.shed, 1);
}

/// Fills the socket until it refuses; gives how many bytes were sent in all.
fn fill(outbox: &mut Outbox) -> usize {
    let chunk = Bytes::from(vec![7; 100_000]);
    let mut sent = 0;
    while !outbox.is_busy(3) {
        assert!(outbox.share(3, &chunk, Class::Page));
        outbox.flush();
        sent += chunk.len();
    }
    sent
}

#[test]
fn only_what_the_socket_refused_is_kept() {
    let (mut outbox, mut peer) = pair(BOUNDS);
    let mut sent = fill(&mut outbox);
    assert!(outbox.waiting() > 0 && outbox.waiting() <= 100_000);
    assert_eq!(outbox.waiting(), outbox.sockets[3].pending as usize);
    outbox.now_ms = 500;
    assert_eq!(outbox.stalled_ms(3, 700), 700);
    assert!(write(&mut outbox, b"behind it", Class::Page));
    sent += 9;
    let reader = std::thread::spawn(move || {
        let bytes = read(&mut peer, sent);
        (bytes.ends_with(b"behind it"), peer)
    });
    while outbox.is_busy(3) {
        outbox.on_writable(3);
    }
    assert_eq!(outbox.take_drained(), [3]);
    assert_eq!((outbox.waiting(), outbox.sockets[3].pending), (0, 0));
    assert!(outbox.sockets[3].luggage.is_none(), "no buffer at rest");
    let (in_order, _peer) = reader.join().unwrap();
    assert!(in_order);
}

#[test]
fn the_threads_bound_closes_who_would_go_over_it() {
    let (mut outbox, _peer) = pair(Bounds { thread: 1_000, ..BOUNDS });
    fill(&mut outbox);
    assert_eq!(outbox.take_dead(), [3]);
    outbox.remove(3);
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn finishing_ends_the_stream_after_the_last_byte() {
    let (mut outbox, mut peer) = pair(BOUNDS);
    assert!(write(&mut outbox, b"goodbye", Class::Control));
    outbox.finish(3);
    assert!(!write(&mut outbox, b"more", Class::Control));
    outbox.flush();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"goodbye");
}
