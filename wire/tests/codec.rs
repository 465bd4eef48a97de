//! Properties of the codec: what goes in comes out, however the stream is cut; random bytes do no harm;
//! the hand-made encoders write what prost writes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod frames;

use proptest::prelude::*;
use wire::{
    ClientDecoder, Decoder, ServerDecoder, WireError,
    codec::{self, PREAMBLE},
    frame::*,
    limits::{MAX_CLIENT_FRAME, MAX_SERVER_FRAME},
};

use frames::{ack, broadcast, client_frame, push, server_frame};

/// Decodes a stream that arrives in pieces of the given lengths, again and again.
fn decode_in_pieces<F>(mut decoder: Decoder<F>, stream: &[u8], pieces: &[usize]) -> Result<Vec<F>, WireError>
where
    F: prost::Message + Default,
{
    let mut frames = Vec::new();
    let mut rest = stream;
    for length in pieces.iter().cycle() {
        let (mut input, after) = rest.split_at((*length).min(rest.len()));
        rest = after;
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
        assert!(input.is_empty(), "None means that the input has been used up");
        if rest.is_empty() {
            assert!(decoder.is_at_rest(), "whole frames leave nothing behind");
            assert_eq!(decoder.held(), 0);
            return Ok(frames);
        }
    }
    Ok(frames)
}

fn feed<F: prost::Message + Default>(mut decoder: Decoder<F>, pieces: &[Vec<u8>]) {
    for piece in pieces {
        let mut input = &piece[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_frames_survive_any_cutting(frames in prop::collection::vec(client_frame(), 1..8),
                                         pieces in prop::collection::vec(1usize..64, 1..8)) {
        let mut stream = PREAMBLE.to_vec();
        frames.iter().for_each(|frame| codec::encode_client_frame_into(frame, &mut stream));
        let decoded = decode_in_pieces(ServerDecoder::for_server(MAX_CLIENT_FRAME), &stream, &pieces);
        prop_assert_eq!(decoded.unwrap(), frames);
    }

    #[test]
    fn server_frames_survive_any_cutting(frames in prop::collection::vec(server_frame(), 1..8),
                                         pieces in prop::collection::vec(1usize..64, 1..8)) {
        let stream: Vec<u8> = frames.iter().flat_map(codec::encode_server_frame).collect();
        let decoded = decode_in_pieces(ClientDecoder::for_client(MAX_SERVER_FRAME), &stream, &pieces);
        prop_assert_eq!(decoded.unwrap(), frames);
    }

    #[test]
    fn split_at_every_byte(frames in prop::collection::vec(server_frame(), 1..4)) {
        let stream: Vec<u8> = frames.iter().flat_map(codec::encode_server_frame).collect();
        for cut in 1..=stream.len() {
            let pieces = [cut, stream.len()];
            let decoded = decode_in_pieces(ClientDecoder::for_client(MAX_SERVER_FRAME), &stream, &pieces);
            prop_assert_eq!(&decoded.unwrap(), &frames, "cut at {}", cut);
        }
    }

    #[test]
    fn random_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
        feed(ClientDecoder::for_client(200), &pieces);
        feed(ServerDecoder::for_server(200), &pieces);
        let mut greeted = vec![PREAMBLE.to_vec()];
        greeted.extend(pieces);
        feed(ServerDecoder::for_server(200), &greeted);
    }

    #[test]
    fn damaged_frames_never_panic(frame in client_frame(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut stream = PREAMBLE.to_vec();
        codec::encode_client_frame_into(&frame, &mut stream);
        let at = at.index(stream.len());
        stream[at] = byte;
        let (head, tail) = stream.split_at(cut.index(stream.len()));
        feed(ServerDecoder::for_server(200), &[head.to_vec(), tail.to_vec()]);
    }

    #[test]
    fn hot_push_is_prosts(push in push()) {
        let hot = codec::encode_push(&push);
        prop_assert_eq!(hot.len(), codec::push_len(&push));
        prop_assert_eq!(hot, codec::encode_server_frame(&push.into()));
    }

    #[test]
    fn hot_broadcast_is_prosts(broadcast in broadcast()) {
        prop_assert_eq!(codec::encode_broadcast(&broadcast), codec::encode_server_frame(&broadcast.into()));
    }

    #[test]
    fn hot_ack_is_prosts(ack in ack()) {
        let hot = codec::encode_ack(&ack);
        prop_assert!(hot.len() <= codec::MAX_ACK_LEN);
        prop_assert_eq!(hot, codec::encode_client_frame(&ack.into()));
    }
}

#[test]
fn hot_pong_and_ping_are_prosts() {
    assert_eq!(codec::pong(), codec::encode_server_frame(&Pong {}.into()));
    assert_eq!(codec::ping(), codec::encode_client_frame(&Ping {}.into()));
}

#[test]
fn every_error_has_its_cause_and_close_code() {
    let server = |bytes: &[u8]| ServerDecoder::for_server(10).decode(&mut &*bytes).unwrap_err();
    let cases = [
        (server(b"GET / HTTP/1.1"), WireError::BadPreamble, CloseCode::BadFrame),
        (server(b"LX"), WireError::BadPreamble, CloseCode::BadFrame),
        (server(b"LW\x02"), WireError::BadVersion(2), CloseCode::BadVersion),
        (server(b"LW\x01\xff\xff\xff\xff\xff"), WireError::BadVarint, CloseCode::BadFrame),
        (server(b"LW\x01\x0b"), WireError::TooLarge { len: 11, max: 10 }, CloseCode::TooLarge),
    ];
    for (error, expected, code) in cases {
        assert_eq!(error, expected);
        assert_eq!(error.close_code(), code);
    }
    // Field 1 announces more bytes than the frame has.
    let error = server(b"LW\x01\x02\x0a\x05");
    assert!(matches!(error, WireError::BadProtobuf(_)), "{error:?}");
    assert_eq!(error.close_code(), CloseCode::BadFrame);
}

#[test]
fn an_unknown_frame_has_no_body() {
    // Field 15 of a later version, then a Ping.
    let mut input = &b"LW\x01\x02\x7a\x00\x02\x32\x00"[..];
    let mut decoder = ServerDecoder::for_server(10);
    assert_eq!(decoder.decode(&mut input).unwrap(), Some(ClientFrame { body: None }));
    assert_eq!(decoder.decode(&mut input).unwrap(), Some(Ping {}.into()));
}

/// A peer that announces a large frame and then says nothing must not cost what it announced.
#[test]
fn what_is_kept_grows_with_what_arrives() {
    let mut decoder = ClientDecoder::for_client(MAX_SERVER_FRAME);
    let mut stream = Vec::new();
    prost::encoding::encode_varint(MAX_SERVER_FRAME as u64, &mut stream);
    stream.push(0x2a);
    assert_eq!(decoder.decode(&mut &stream[..]).unwrap(), None);
    assert!(!decoder.is_at_rest());
    assert!(decoder.held() < 64, "{}", decoder.held());
    assert_eq!(decoder.decode(&mut &[0u8; 100][..]).unwrap(), None);
    assert!(decoder.held() < 256, "{}", decoder.held());
}

#[test]
fn a_decoder_at_rest_is_small() {
    assert_eq!(size_of::<ServerDecoder>(), 16);
}
