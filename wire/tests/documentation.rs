//! Writes the tables and the example of `docs/protocol.md` from the code, and fails if they are not there.
//! `UPDATE_DOCS=1 cargo test -p wire --test documentation` puts them there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use std::{env, fmt::Write, fs, path::Path};

use bytes::Bytes;
use wire::{
    ServerDecoder,
    close::{BindRetry, Wait, Whither},
    codec::{self, PREAMBLE},
    frame::*,
    json,
    limits::MAX_CLIENT_FRAME,
    ws::Format,
};

fn check(marker: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {marker} -->\n");
    let (before, rest) = text.split_once(&begin).expect("the marker is there");
    let (found, after) = rest.split_once("<!-- end -->").expect("the end is there");
    if found == expected {
        return;
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{expected}<!-- end -->{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "docs/protocol.md is behind the code: see the head of this test");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// One test, because its parts write the same file.
#[test]
fn protocol_md_is_what_the_code_does() {
    check("bind codes", &bind_codes());
    check("unbound reasons", &unbound_reasons());
    check("close codes", &close_codes());
    check("subprotocols", &subprotocols());
    check("json", &json());
    check("example", &example());
    check("push", &format!("```text\n{}```\n", dissect(&codec::encode_push(&push()))));
}

fn bind_codes() -> String {
    let mut table = "| code | | what to do |\n| --- | --- | --- |\n".to_owned();
    for number in 0.. {
        let Ok(code) = BindCode::try_from(number) else { break };
        let action = match code.retry() {
            BindRetry::Never => "do not try again; tell the app",
            BindRetry::NewToken => "new token",
            BindRetry::Later => "again after `retry_after_ms`, or after the back-off if that is longer",
        };
        let name = code.as_str_name().trim_start_matches("BIND_CODE_");
        writeln!(table, "| `{name}` | {number} | {action} |").unwrap();
    }
    table
}

fn unbound_reasons() -> String {
    let mut table = "| reason | | what to do |\n| --- | --- | --- |\n".to_owned();
    for number in 0.. {
        let Ok(reason) = UnboundReason::try_from(number) else { break };
        let action = match reason {
            UnboundReason::Requested => "nothing: it answers `Unbind`",
            reason if reason.binds_again() => "bind again after the back-off",
            _ => "do **not** bind again by yourself; tell the app",
        };
        let name = reason.as_str_name().trim_start_matches("UNBOUND_REASON_");
        writeln!(table, "| `{name}` | {number} | {action} |").unwrap();
    }
    table
}

fn close_codes() -> String {
    let mut table = "| code | | connect again | wait |\n| --- | --- | --- | --- |\n".to_owned();
    for code in CloseCode::ALL {
        let advice = code.advice();
        let whither = match advice.whither {
            Whither::Nowhere => "no: update the SDK",
            Whither::Anywhere => "anywhere",
            Whither::Elsewhere => "elsewhere",
        };
        let wait = match advice.wait {
            _ if advice.whither == Whither::Nowhere => "–",
            Wait::Brief => "first step of the back-off, if the connection lived 30 s",
            Wait::Backoff => "back-off",
            Wait::AsTold => "told",
        };
        let name = code.as_str_name().trim_start_matches("CLOSE_CODE_");
        writeln!(table, "| `{name}` | {} | {whither} | {wait} |", code as i32).unwrap();
    }
    table
}

fn push() -> Push {
    Push {
        binding: 1,
        seq: 18,
        skip: 2,
        id: 0x0003_8d7e_a4c6_8001,
        payload: Bytes::from_static(b"hello"),
        accepted_ms: 1_760_000_000_000,
        ..Default::default()
    }
}

fn subprotocols() -> String {
    let mut table = "| subprotocol | messages |\n| --- | --- |\n".to_owned();
    for format in Format::ALL {
        let messages = match format {
            Format::Binary => "binary, each a frame as protobuf",
            Format::Json => "text, each a frame as JSON",
        };
        writeln!(table, "| `{}` | {messages} |", format.subprotocol()).unwrap();
    }
    table
}

/// A frame of the example, and who says it.
enum Said {
    Up(ClientFrame),
    Down(ServerFrame),
}

fn conversation() -> Vec<Said> {
    let inbox = Some(InboxPosition { epoch: 3, seq: 15 });
    let broadcasts = Some(BroadcastPosition { epoch: 3, bseq: 4 });
    let (app, uid) = ("demo".to_owned(), "alice".to_owned());
    let connect = Connect {
        device: "phone-7".to_owned(),
        version: 1,
        network: Network::Wifi.into(),
        sdk: "example/1".to_owned(),
        utc_offset_min: Some(60),
        ..Connect::default()
    };
    let bind = Bind {
        binding: 1,
        app,
        uid,
        token: "eyJ0".to_owned(),
        tags: vec!["beta".to_owned()],
        inbox,
        app_version: "3.1".to_owned(),
        ..Bind::default()
    };
    let id = push().id + 4096;
    let broadcast = Broadcast {
        app: 1,
        bseq: 5,
        id,
        payload: Bytes::from_static(b"all"),
        accepted_ms: 1_760_000_000_500,
        binding: 0,
    };
    use Said::{Down, Up};
    vec![
        Up(connect.into()),
        Down(Connected { conn: 42, heartbeat_s: 240, version: 1, ..Connected::default() }.into()),
        Up(bind.into()),
        Down(Bound { binding: 1, app: 1, inbox, broadcasts }.into()),
        Down(push().into()),
        Down(broadcast.into()),
        Up(Ack { binding: 1, seq: 18, bseq: 5, epoch: 3, ..Ack::default() }.into()),
        Up(Ping {}.into()),
        Down(Pong {}.into()),
        Down(Unbound { binding: 1, reason: UnboundReason::Replaced.into() }.into()),
    ]
}

/// The same conversation as JSON, as each side's own decoder takes it.
fn json() -> String {
    let mut text = "```text\n".to_owned();
    for said in conversation() {
        let (direction, bytes) = match &said {
            Said::Up(frame) => ("→", json::encode_client(frame)),
            Said::Down(frame) => ("←", json::encode_server(frame)),
        };
        match said {
            Said::Up(frame) => assert_eq!(json::decode_client(&bytes), Ok(frame)),
            Said::Down(frame) => assert_eq!(json::decode_server(&bytes), Ok(frame)),
        }
        writeln!(text, "{direction} {}", String::from_utf8(bytes).unwrap()).unwrap();
    }
    text.push_str("```\n");
    text
}

fn example() -> String {
    let frames = conversation();
    let mut text = format!("```text\n→ {:<10} {}\n", "preamble", hex(&PREAMBLE));
    let mut upstream = PREAMBLE.to_vec();
    for said in &frames {
        let (direction, name, bytes) = match said {
            Said::Up(frame) => ("→", frame.name(), codec::encode_client_frame(frame)),
            Said::Down(frame) => ("←", frame.name(), codec::encode_server_frame(frame)),
        };
        writeln!(text, "{direction} {name:<10} {}", hex(&bytes)).unwrap();
        if direction == "→" {
            upstream.extend_from_slice(&bytes);
        }
    }
    text.push_str("```\n");

    // What the document shows is what a room would take.
    let mut decoder = ServerDecoder::for_server(MAX_CLIENT_FRAME);
    let mut input = &upstream[..];
    let mut names = Vec::new();
    while let Some(frame) = decoder.decode(&mut input).unwrap() {
        names.push(frame.name());
    }
    assert_eq!(names, ["connect", "bind", "ack", "ping"]);
    text
}

/// Takes a frame with a Push apart, by the rules of protobuf and not by its library.
fn dissect(frame: &[u8]) -> String {
    let fields = ["binding", "seq", "skip", "id", "payload", "accepted_ms", "collapse_key"];
    let mut at = 0;
    let mut text = String::new();
    let mut line = |bytes: &[u8], words: String| writeln!(text, "{:<27} {words}", hex(bytes)).unwrap();
    let (length, end) = varint(frame, at);
    line(&frame[at..end], format!("the frame has {length} bytes"));
    at = end;
    let (length, end) = varint(frame, at + 1);
    line(&frame[at..end], format!("field {}, push: a message of {length} bytes", frame[at] >> 3));
    at = end;
    while at < frame.len() {
        let (field, wire_type) = (frame[at] >> 3, frame[at] & 7);
        let (end, value) = match wire_type {
            0 => {
                let (value, end) = varint(frame, at + 1);
                (end, value.to_string())
            }
            1 => {
                let id = u64::from_le_bytes(frame[at + 1..at + 9].try_into().unwrap());
                (at + 9, format!("{id}, eight bytes, the least first"))
            }
            2 => {
                let (length, start) = varint(frame, at + 1);
                let end = start + length as usize;
                (end, format!("{length} bytes, {:?}", std::str::from_utf8(&frame[start..end]).unwrap()))
            }
            _ => panic!("a wire type that no frame has"),
        };
        line(&frame[at..end], format!("field {field}, {}: {value}", fields[usize::from(field) - 1]));
        at = end;
    }
    text
}

fn varint(bytes: &[u8], mut at: usize) -> (u64, usize) {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        value |= u64::from(bytes[at] & 0x7f) << shift;
        at += 1;
        if bytes[at - 1] & 0x80 == 0 {
            break;
        }
    }
    (value, at)
}
