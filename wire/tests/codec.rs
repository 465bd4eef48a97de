//! Properties of the codec: what goes in comes out, however the stream is cut; random bytes do no harm;
//! the hand-made encoders write what prost writes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use bytes::Bytes;
use proptest::prelude::*;
use wire::{
    ClientDecoder, Decoder, ServerDecoder, WireError,
    codec::{self, PREAMBLE},
    frame::*,
    limits::{MAX_CLIENT_FRAME, MAX_SERVER_FRAME},
};

fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

/// Numbers near the edges of the varint's lengths come up as often as any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), any::<u64>(), (0u32..64).prop_map(|shift| 1 << shift), 0u64..300]
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé]{0,40}"
}

prop_compose! {
    fn push()(binding: u32, seq in number(), skip in number(), id in number(), payload in payload(),
              accepted_ms in number()) -> Push {
        Push { binding, seq, skip, id, payload, accepted_ms }
    }
}

prop_compose! {
    fn broadcast()(app: u32, bseq in number(), id in number(), payload in payload(),
                   accepted_ms in number()) -> Broadcast {
        Broadcast { app, bseq, id, payload, accepted_ms }
    }
}

prop_compose! {
    fn ack()(binding: u32, seq in number(), bseq in number(), epoch in number()) -> Ack {
        Ack { binding, seq, bseq, epoch }
    }
}

prop_compose! {
    fn bind()(binding: u32, app in text(), uid in text(), token in text(),
              tags in prop::collection::vec(text(), 0..4), inbox in prop::option::of((number(), number())),
              broadcasts in prop::option::of((number(), number()))) -> Bind {
        let inbox = inbox.map(|(epoch, seq)| InboxPosition { epoch, seq });
        let broadcasts = broadcasts.map(|(epoch, bseq)| BroadcastPosition { epoch, bseq });
        Bind { binding, app, uid, token, tags, inbox, broadcasts }
    }
}

prop_compose! {
    fn resume()(binding: u32, epoch in number(), received in number(), confirmed in number(),
                log_epoch in number(), broadcast_received in number(), broadcast_confirmed in number())
              -> ResumeBinding {
        ResumeBinding {
            binding, epoch, received, confirmed, log_epoch, broadcast_received, broadcast_confirmed
        }
    }
}

prop_compose! {
    fn connect()(device in text(), version: u32, network in 0i32..7, heartbeat_s: u32,
                 resume_token in payload(), sdk in text(),
                 resume in prop::collection::vec(resume(), 0..4)) -> Connect {
        Connect { device, version, network, heartbeat_s, resume_token, sdk, resume }
    }
}

prop_compose! {
    fn up()(binding: u32, kind in text(), payload in payload(), r#ref in number()) -> Up {
        Up { binding, kind, payload, r#ref }
    }
}

fn client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        Just(ClientFrame { body: None }),
        Just(Ping {}.into()),
        Just(Leave {}.into()),
        any::<u32>().prop_map(|binding| Unbind { binding }.into()),
        ack().prop_map(Into::into),
        bind().prop_map(Into::into),
        connect().prop_map(Into::into),
        up().prop_map(Into::into),
    ]
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
        Just(ServerFrame { body: None }),
        Just(Pong {}.into()),
        push().prop_map(Into::into),
        broadcast().prop_map(Into::into),
        (any::<u32>(), number()).prop_map(|(binding, id)| Recall { binding, id, app: 7 }.into()),
        (prop::collection::vec(text(), 0..4), any::<u32>(), text())
            .prop_map(|(addresses, after_ms, reason)| Reconnect { addresses, after_ms, reason }.into()),
        (0i32..11, any::<u32>(), text()).prop_map(|(code, retry_after_ms, message)| Close {
            code,
            retry_after_ms,
            message
        }
        .into()),
        (any::<u64>(), any::<u32>(), payload(), any::<u32>(), any::<bool>()).prop_map(
            |(conn, heartbeat_s, resume_token, version, resumed)| Connected {
                conn,
                heartbeat_s,
                resume_token,
                version,
                resumed
            }
            .into()
        ),
    ]
}

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
