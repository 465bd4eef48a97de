//! Properties of the WebSocket codec: what goes in comes out, however it is fragmented and however the stream is cut;
//! random bytes do no harm; nothing is kept at rest, and no more than the bound at any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use bytes::Bytes;
use proptest::prelude::*;
use wire::ws::{Incoming, Opcode, Receiver, WsError, close_into, frame_into, masked_into};

const MAX: usize = 1000;

/// One frame, by the rules of RFC 6455 and not by the crate: also such as the crate never sends.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(bit | len as u8),
        len @ 126..=0xffff => out.extend([bit | 126, (len >> 8) as u8, len as u8]),
        len => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    out
}

/// A message and where it is cut into fragments, with the Pings that come between them.
#[derive(Debug, Clone)]
struct Fragmented {
    message: Incoming,
    cuts: Vec<(prop::sample::Index, Option<Vec<u8>>)>,
}

impl Fragmented {
    fn write(&self, mask: Option<[u8; 4]>, stream: &mut Vec<u8>, expected: &mut Vec<Incoming>) {
        let (mut opcode, payload) = match &self.message {
            Incoming::Text(payload) => (1, payload.clone()),
            Incoming::Binary(payload) => (2, payload.clone()),
            Incoming::Ping(payload) => (9, payload.clone()),
            Incoming::Pong(payload) => (10, payload.clone()),
            Incoming::Close(_) => unreachable!("not among those made"),
        };
        let cuts = if opcode > 2 { &[][..] } else { &self.cuts };
        let mut places: Vec<_> = cuts.iter().map(|(at, ping)| (at.index(payload.len() + 1), ping)).collect();
        places.sort_by_key(|(at, _)| *at);
        let mut start = 0;
        for (at, ping) in places {
            stream.extend(frame(opcode, &payload[start..at], mask));
            (opcode, start) = (0, at);
            if let Some(ping) = ping {
                stream.extend(frame(0x89, ping, mask));
                expected.push(Incoming::Ping(ping.clone().into()));
            }
        }
        stream.extend(frame(0x80 | opcode, &payload[start..], mask));
        expected.push(self.message.clone());
    }
}

fn payload(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..=max)]
}

fn fragmented() -> impl Strategy<Value = Fragmented> {
    let message = prop_oneof![
        payload(MAX).prop_map(|bytes| Incoming::Binary(bytes.into())),
        "[a-zé€😀]{0,200}".prop_map(|text| Incoming::Text(text.into())),
        payload(125).prop_map(|bytes| Incoming::Ping(bytes.into())),
        payload(125).prop_map(|bytes| Incoming::Pong(bytes.into())),
    ];
    let ping = prop::option::of(payload(125));
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), ping), 0..4);
    (message, cuts).prop_map(|(message, cuts)| Fragmented { message, cuts })
}

fn receive(mut receiver: Receiver, pieces: &[&[u8]]) -> (Vec<Incoming>, Option<WsError>) {
    let mut all = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match receiver.decode(&mut input) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
        assert!(input.is_empty(), "None means that the input has been used up");
        // A vector grows by doubling; the rest is the fixed part.
        assert!(receiver.held() <= 2 * MAX + 512, "{}", receiver.held());
    }
    assert!(!receiver.is_at_rest() || receiver.held() == 0);
    (all, None)
}

/// Cuts a stream into pieces of the given lengths, again and again.
fn cut<'s>(mut stream: &'s [u8], lengths: &[usize]) -> Vec<&'s [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        let (piece, rest) = stream.split_at((*length).min(stream.len()));
        pieces.push(piece);
        stream = rest;
        if rest.is_empty() {
            break;
        }
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_fragments_and_any_cutting(
        messages in prop::collection::vec(fragmented(), 1..6),
        mask: [u8; 4],
        lengths in prop::collection::vec(1usize..300, 1..8),
    ) {
        for (receiver, mask) in [(Receiver::for_server(MAX), Some(mask)), (Receiver::for_client(MAX), None)] {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            messages.iter().for_each(|message| message.write(mask, &mut stream, &mut expected));
            let (received, error) = receive(receiver, &cut(&stream, &lengths));
            prop_assert_eq!(error, None);
            prop_assert_eq!(received, expected);
        }
    }

    #[test]
    fn cut_at_every_byte(messages in prop::collection::vec(fragmented(), 1..3), mask: [u8; 4]) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        messages.iter().for_each(|message| message.write(Some(mask), &mut stream, &mut expected));
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            let (received, error) = receive(Receiver::for_server(MAX), &[head, tail]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(&received, &expected, "cut at {}", at);
        }
    }

    /// Whatever the bytes are: cut into pieces they mean the same as in one, and what is wrong with them too.
    #[test]
    fn any_bytes_mean_the_same_in_pieces(
        frames in prop::collection::vec((any::<u8>(), payload(200), prop::option::weighted(0.9, any::<[u8; 4]>())), 0..5),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        lengths in prop::collection::vec(1usize..40, 1..8),
    ) {
        let mut stream: Vec<u8> =
            frames.iter().flat_map(|(first, payload, mask)| frame(first & 0x8f, payload, *mask)).collect();
        stream.extend(&noise);
        for receiver in [Receiver::for_server, Receiver::for_client] {
            let whole = receive(receiver(MAX), &[&stream]);
            prop_assert_eq!(receive(receiver(MAX), &cut(&stream, &lengths)), whole.clone());
            prop_assert_eq!(receive(receiver(MAX), &cut(&stream, &[1])), whole);
        }
    }

    #[test]
    fn what_one_side_writes_the_other_reads(payload in payload(MAX), mask: [u8; 4], words in "[a-z€]{0,60}") {
        let mut up = Vec::new();
        masked_into(&mut up, Opcode::Binary, &payload, mask);
        close_into(&mut up, 4001, &words, Some(mask));
        let mut down = Vec::new();
        frame_into(&mut down, Opcode::Binary, &payload);
        close_into(&mut down, 4001, &words, None);
        for (receiver, stream) in [(Receiver::for_server(MAX), up), (Receiver::for_client(MAX), down)] {
            let (received, error) = receive(receiver, &[&stream]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(&received[0], &Incoming::Binary(Bytes::copy_from_slice(&payload)));
            let Incoming::Close(Some((4001, told))) = &received[1] else { panic!("{received:?}") };
            prop_assert!(words.starts_with(told.as_str()) && told.len() + 3 > words.len().min(123));
        }
    }
}

#[test]
fn a_receiver_at_rest_is_small() {
    assert_eq!(size_of::<Receiver>(), 16);
}

/// A peer that announces a large message and then says nothing must not cost what it announced.
#[test]
fn what_is_kept_grows_with_what_arrives() {
    let mut receiver = Receiver::for_client(1 << 20);
    let announced = frame(0x82, &vec![0; 1 << 20], None);
    assert_eq!(receiver.decode(&mut &announced[..11]).unwrap(), None);
    assert!(receiver.held() < 200, "{}", receiver.held());
    assert_eq!(receiver.decode(&mut &announced[11..2000]).unwrap(), None);
    assert!(receiver.held() < 5000, "{}", receiver.held());
}

/// The bound is one of the message, not of a frame, and is kept before the bytes come.
#[test]
fn a_message_over_the_bound_is_refused_by_its_header() {
    let whole = frame(0x82, &[0; MAX + 1], None);
    let (_, error) = receive(Receiver::for_client(MAX), &[&whole[..4]]);
    assert_eq!(error, Some(WsError::TooLarge { len: MAX as u64 + 1, max: MAX as u32 }));
    assert_eq!(error.unwrap().close_code(), 1009);

    let mut fragments = frame(0x02, &[0; MAX], None);
    fragments.extend(&frame(0x00, &[], None));
    fragments.extend(&frame(0x80, &[0], None)[..2]);
    let (_, error) = receive(Receiver::for_client(MAX), &[&fragments]);
    assert_eq!(error, Some(WsError::TooLarge { len: MAX as u64 + 1, max: MAX as u32 }));

    let most = frame(0x82, &[0; 1], None);
    let mut beyond = vec![0x82, 127];
    beyond.extend((u64::MAX >> 1).to_be_bytes());
    let (_, error) = receive(Receiver::for_client(MAX), &[&most, &beyond]);
    assert!(matches!(error, Some(WsError::TooLarge { .. })), "{error:?}");
}

#[test]
fn nothing_counts_after_a_close() {
    let mut stream = frame(0x88, &[0x03, 0xe8], None);
    stream.extend(frame(0x89, b"?", None));
    stream.extend(b"garbage");
    let (received, error) = receive(Receiver::for_client(MAX), &cut(&stream, &[1]));
    assert_eq!((received, error), (vec![Incoming::Close(Some((1000, String::new())))], None));
}

#[test]
fn a_mask_is_demanded_of_clients_and_forbidden_to_servers() {
    let masked = frame(0x81, b"a", Some([0; 4]));
    let plain = frame(0x81, b"a", None);
    assert_eq!(receive(Receiver::for_server(MAX), &[&plain]).1, Some(WsError::Unmasked));
    assert_eq!(receive(Receiver::for_client(MAX), &[&masked]).1, Some(WsError::Masked));
}
