//! Staging, merging, refusing, catching up: against a real socket pair.

use std::io::Read as _;

use bytes::Bytes;
use wire::{
    codec::encode_broadcast,
    frame::{Broadcast, Push},
};

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

/// Fills the socket with frames of a kind, and then its queue with 256 KiB of them; gives how many there are.
fn stuffed(kind: Kind) -> (Outbox, std::net::TcpStream, usize) {
    let (mut outbox, peer) = pair(Bounds { connection: 1 << 20, ..BOUNDS });
    outbox.sockets[3].kind = kind;
    let mut count = 0;
    while outbox.waiting() < 256 << 10 {
        let broadcast =
            Broadcast { bseq: count as u64 + 1, payload: vec![7; 900].into(), ..Broadcast::default() };
        assert!(outbox.share(3, &encode_broadcast(&broadcast), Class::Data));
        outbox.flush();
        count += 1;
    }
    (outbox, peer, count)
}

fn push(binding: u32, seq: u64, key: &str) -> Push {
    let payload = format!("message {seq}").into();
    Push { binding, seq, id: seq, payload, collapse_key: key.to_owned(), ..Push::default() }
}

/// The frames, as (binding, number); a broadcast has no binding.
fn sent(outbox: &mut Outbox, peer: std::net::TcpStream, kind: Kind) -> Vec<(u32, u64, u64)> {
    outbox.finish(3);
    let mut peer = peer;
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    while outbox.waiting() > 0 {
        outbox.on_writable(3);
    }
    let all = reader.join().unwrap();
    let (mut rest, mut frames) = (&all[..], Vec::new());
    while !rest.is_empty() {
        let (frame, more) = rest.split_at(framing::frame_len(kind, rest));
        frames.push(
            framing::read_push(kind, frame).map_or((0, 0, 0), |push| (push.binding, push.seq, push.skip)),
        );
        rest = more;
    }
    assert_eq!((outbox.waiting(), outbox.sockets[3].pending), (0, 0));
    frames
}

#[test]
fn the_next_whole_frame_is_an_urgent_one() {
    for kind in [Kind::Native, Kind::Binary, Kind::Json] {
        let (mut outbox, peer, count) = stuffed(kind);
        let written = outbox.bytes as usize;
        let normal = push(1, 1, "");
        assert!(outbox.push(3, &normal, Class::Unicast) && outbox.push(3, &push(2, 7, ""), Class::Unicast));
        assert!(outbox.push(3, &push(2, 8, ""), Class::Urgent));
        let frames = sent(&mut outbox, peer, kind);
        assert_eq!(frames.len(), count + 3);
        let first = frames.iter().position(|frame| frame.0 > 0).unwrap();
        assert_eq!(frames[first..first + 3], [(2, 7, 0), (2, 8, 0), (1, 1, 0)], "{kind:?}");
        // Behind the one that had been begun.
        let each = written / first.max(1);
        assert!(
            (900..1_500).contains(&each),
            "{kind:?}: {written} bytes had been written, {first} frames came before"
        );
    }
}

#[test]
fn an_older_one_with_the_same_key_leaves_and_the_numbers_have_no_holes() {
    for kind in [Kind::Native, Kind::Binary, Kind::Json] {
        let (mut outbox, peer, _) = stuffed(kind);
        let pending = outbox.sockets[3].pending as usize;
        assert_eq!(pending, outbox.waiting());
        for (seq, key) in [(1, "a"), (2, ""), (3, "b"), (4, "a"), (5, "b"), (6, "a"), (7, "c"), (8, "b")] {
            assert!(outbox.push(3, &push(1, seq, key), Class::Unicast));
            assert!(outbox.push(3, &push(2, seq, "a"), Class::Unicast));
            assert_eq!(outbox.sockets[3].pending as usize, outbox.waiting());
        }
        assert_eq!(outbox.replaced, 4 + 7);
        let frames = sent(&mut outbox, peer, kind);
        let of =
            |binding| frames.iter().filter(move |frame| frame.0 == binding).map(|frame| (frame.1, frame.2));
        assert_eq!(of(1).collect::<Vec<_>>(), [(2, 1), (6, 3), (7, 0), (8, 0)], "{kind:?}");
        assert_eq!(of(2).collect::<Vec<_>>(), [(8, 7)], "{kind:?}");
    }
}

/// A message that is refused must not have taken another out.
#[test]
fn what_is_refused_replaces_nothing() {
    let (mut outbox, peer, _) = stuffed(Kind::Native);
    assert!(outbox.push(3, &push(1, 1, "a"), Class::Unicast));
    let large = Push { payload: vec![1; 1 << 20].into(), ..push(1, 2, "a") };
    assert!(!outbox.push(3, &large, Class::Unicast));
    assert_eq!(outbox.sockets[3].pending as usize, outbox.waiting());
    let frames = sent(&mut outbox, peer, Kind::Native);
    assert_eq!(frames.iter().filter(|frame| frame.0 > 0).collect::<Vec<_>>(), [&(1, 1, 0)]);
}

/// What was staged together is told apart when the socket takes only a part of it, whatever the place.
#[test]
fn frames_that_were_staged_together_keep_their_ranks() {
    for kind in [Kind::Native, Kind::Binary, Kind::Json] {
        for large in [10, 900] {
            let (mut outbox, _peer) = pair(BOUNDS);
            outbox.sockets[3].kind = kind;
            let broadcast = Broadcast { bseq: 1, payload: vec![7; large].into(), ..Broadcast::default() };
            for seq in 1..=2 {
                assert!(outbox.share(3, &encode_broadcast(&broadcast), Class::Page));
                assert!(outbox.push(3, &push(1, seq, ""), Class::Page));
            }
            let (first, all) = (outbox.sockets[3].first, outbox.sockets[3].pending as usize);
            let whole: Vec<u8> =
                outbox.frames_of(kind, first, 0).iter().flat_map(|kept| kept.parts.concat()).collect();
            assert_eq!(whole.len(), all);
            let mut at = (first, 0);
            for skip in 0..all {
                let kept = outbox.frames_of(kind, at.0, skip - at.1);
                let bytes: Vec<u8> = kept.iter().flat_map(|kept| kept.parts.concat()).collect();
                assert_eq!(bytes, whole[skip..], "{kind:?}, from {skip}");
                assert!(kept[1..].iter().all(|kept| !kept.begun));
                let piece = &outbox.pieces[at.0 as usize];
                if skip + 1 - at.1 == piece.bytes(&outbox.scratch).len() {
                    at = (piece.next, skip + 1);
                }
            }
        }
    }
}
