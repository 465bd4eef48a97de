//! Properties of the JSON form: what goes in comes out, what protobuf's rules let a sender write is taken, and what is
//! wrong is said in words and does no harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod frames;

use bytes::Bytes;
use proptest::prelude::*;
use wire::{
    WireError,
    frame::*,
    json::{decode_client, decode_server, encode_client, encode_server},
};

use frames::{client_frame, server_frame};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_frames_come_back(frame in client_frame()) {
        prop_assert_eq!(decode_client(&encode_client(&frame)), Ok(frame));
    }

    #[test]
    fn server_frames_come_back(frame in server_frame()) {
        prop_assert_eq!(decode_server(&encode_server(&frame)), Ok(frame));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (decode_client(&bytes), decode_server(&bytes));
    }

    #[test]
    fn damaged_frames_never_panic(frame in client_frame(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut text = encode_client(&frame);
        let at = at.index(text.len());
        text[at] = byte;
        let _ = (decode_client(&text), decode_client(&text[..cut.index(text.len())]));
    }
}

#[test]
fn it_reads_like_this() {
    let push = Push {
        binding: 1,
        seq: 18,
        skip: 0,
        id: u64::MAX,
        payload: Bytes::from_static(b"hello"),
        accepted_ms: 1_760_000_000_000,
        ..Default::default()
    };
    let text = r#"{"push":{"binding":1,"seq":"18","id":"18446744073709551615","payload":"aGVsbG8=","acceptedMs":"1760000000000"}}"#;
    assert_eq!(encode_server(&push.into()), text.as_bytes());
    assert_eq!(encode_client(&Ping {}.into()), br#"{"ping":{}}"#);
    let close = Close { code: CloseCode::Busy.into(), retry_after_ms: 5, message: String::new() };
    assert_eq!(encode_server(&close.into()), br#"{"close":{"code":"CLOSE_CODE_BUSY","retryAfterMs":5}}"#);
    assert_eq!(encode_client(&ClientFrame { body: None }), b"{}");
}

#[test]
fn what_the_rules_let_a_sender_write_is_taken() {
    let up = |payload: &'static [u8]| {
        Up { binding: 2, kind: "k".into(), payload: payload.into(), r#ref: 7 }.into()
    };
    for text in [
        r#"{"up":{"binding":2,"kind":"k","payload":"+/8=","ref":"7"}}"#,
        r#"{"up":{"binding":"2","kind":"k","payload":"-_8","ref":7}}"#,
        r#" { "up" : { "ref" : 7 , "payload" : "+\/8" , "kind" : "\u006b" , "binding" : 2 } } "#,
        r#"{"later":[{}],"up":{"binding":2,"later":{"a":[1,null]},"kind":"k","payload":"+/8=","ref":"7"}}"#,
    ] {
        assert_eq!(decode_client(text.as_bytes()), Ok(up(b"\xfb\xff")), "{text}");
    }
    let connect = |network: Network| {
        let connect = Connect { heartbeat_s: 30, network: network.into(), ..Connect::default() };
        Ok(connect.into())
    };
    for (text, network) in [
        (r#"{"connect":{"heartbeatS":30,"network":"NETWORK_WIFI"}}"#, Network::Wifi),
        (r#"{"connect":{"heartbeat_s":30,"network":2}}"#, Network::Wifi),
        // Of a later version.
        (r#"{"connect":{"heartbeat_s":30,"network":"NETWORK_6G"}}"#, Network::Unspecified),
        (r#"{"connect":{"heartbeat_s":30,"network":99}}"#, Network::Unspecified),
    ] {
        assert_eq!(decode_client(text.as_bytes()), connect(network), "{text}");
    }
    // A frame of a later version.
    assert_eq!(decode_client(br#"{"later":{}}"#), Ok(ClientFrame { body: None }));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, words) in [
        ("", "EOF while parsing"),
        ("[]", "invalid type"),
        ("{\"ping\":{}", "EOF while parsing"),
        ("{\"ping\":{}}x", "trailing characters"),
        (r#"{"ping":{},"ping":{}}"#, "duplicate field"),
        (r#"{"ping":{},"unbind":{}}"#, "duplicate field"),
        (r#"{"ack":{"binding":-1}}"#, "did not match"),
        (r#"{"ack":{"binding":4294967296}}"#, "did not match"),
        (r#"{"ack":{"seq":"1e3"}}"#, "invalid digit"),
        (r#"{"up":{"payload":"!"}}"#, "nvalid"),
        (r#"{"bind":{"tags":"a"}}"#, "expected a sequence"),
        ("{\"bind\":{\"uid\":\"\u{1}\"}}", "control character"),
    ] {
        let error = decode_client(text.as_bytes()).unwrap_err();
        assert_eq!((error.label(), error.close_code()), ("bad_json", CloseCode::BadFrame));
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    assert!(matches!(decode_client(b"{\"bind\":{\"uid\":\"\xff\"}}"), Err(WireError::BadJson(_))));
}

/// Neither deep nesting nor a long word of the sender's costs more than its bytes.
#[test]
fn nesting_and_words_are_bounded() {
    for deep in
        ["{\"a\":".repeat(30_000), format!("{{\"ack\":{{\"seq\":{}", "[".repeat(60_000)), "[".repeat(60_000)]
    {
        assert!(decode_client(deep.as_bytes()).is_err());
    }
    let long = format!(r#"{{"ack":{{"seq":{{"{}":1}}}}}}"#, "é".repeat(5000));
    let words = decode_client(long.as_bytes()).unwrap_err().to_string();
    assert!(words.len() < 300, "{words}");
}
