//! The HTTP request and response that begin a WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use std::time::Duration;

use wire::ws::{
    Format,
    upgrade::{self, MAX_HEAD, ROOM_COOKIE, Refusal, Request, Response, UpgradeError},
};

const NONCE: [u8; 16] = *b"sixteen bytes ok";

/// What a browser sends.
const BROWSER: &str = "GET /push?x=1 HTTP/1.1\r\nHost: push.example:7410\r\nUser-Agent: Mozilla/5.0\r\n\
    Accept: */*\r\nSec-WebSocket-Version: 13\r\nOrigin: https://app.example\r\n\
    Sec-WebSocket-Protocol: v9.other, longwire.v1.json\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: keep-alive, Upgrade\r\nCookie: a=b; longwire_room=7\r\n\
    Pragma: no-cache\r\nUpgrade: WebSocket\r\n\r\n";

fn refused(request: &str) -> Refusal {
    Request::parse(request.as_bytes()).unwrap_err()
}

#[test]
fn a_browser_is_understood() {
    let (request, len) = Request::parse(BROWSER.as_bytes()).unwrap().unwrap();
    assert_eq!(len, BROWSER.len());
    assert_eq!((request.path.as_str(), request.host.as_str()), ("/push", "push.example:7410"));
    assert_eq!(request.origin.as_deref(), Some("https://app.example"));
    assert_eq!(request.format(), Ok(Format::Json));
    assert_eq!(
        (request.cookie(ROOM_COOKIE), request.cookie("a"), request.cookie("b")),
        (Some("7"), Some("b"), None)
    );
    let answer =
        String::from_utf8(upgrade::accept(&request, Format::Json, Some("longwire_room=7; Path=/"))).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: longwire.v1.json\r\n\
         Set-Cookie: longwire_room=7; Path=/\r\n\r\n"
    );
}

#[test]
fn what_follows_the_head_is_left() {
    let mut bytes = BROWSER.as_bytes().to_vec();
    bytes.extend(b"\x81\x80\0\0\0\0");
    let (_, len) = Request::parse(&bytes).unwrap().unwrap();
    assert_eq!(&bytes[len..], b"\x81\x80\0\0\0\0");
}

#[test]
fn it_may_come_in_pieces() {
    for cut in 0..BROWSER.len() {
        assert_eq!(Request::parse(&BROWSER.as_bytes()[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn both_sides_understand_each_other() {
    for format in Format::ALL {
        let bytes = upgrade::request("h:1", "/", format, NONCE, Some("longwire_room=3"));
        let (request, len) = Request::parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (len, request.format(), request.cookie(ROOM_COOKIE)),
            (bytes.len(), Ok(format), Some("3"))
        );
        let answer = upgrade::accept(&request, format, Some("longwire_room=4; HttpOnly"));
        for cut in 0..answer.len() {
            assert_eq!(Response::parse(&answer[..cut], format, NONCE), Ok(None));
        }
        let (response, len) = Response::parse(&answer, format, NONCE).unwrap().unwrap();
        assert_eq!((len, response.cookies), (answer.len(), vec!["longwire_room=4".to_owned()]));
        // Another connection's answer, or another format.
        assert!(matches!(Response::parse(&answer, format, [0; 16]), Err(UpgradeError::Bad(_))));
        let other = Format::ALL.into_iter().find(|other| *other != format).unwrap();
        assert!(matches!(Response::parse(&answer, other, NONCE), Err(UpgradeError::Bad(_))));
    }
}

#[test]
fn each_request_that_cannot_be_has_its_answer() {
    let without = |field: &str| {
        let lines = BROWSER.split("\r\n").filter(|line| !line.starts_with(field));
        lines.collect::<Vec<_>>().join("\r\n")
    };
    let with = |line: &str| BROWSER.replacen("\r\n", &format!("\r\n{line}\r\n"), 1);
    assert_eq!(refused(&BROWSER.replace("GET", "POST")), Refusal::NotGet);
    assert_eq!(refused(&BROWSER.replace("HTTP/1.1", "HTTP/1.0")).status(), 400);
    assert_eq!(refused(&BROWSER.replace("GET /push", "GET http://a/")).status(), 400);
    assert_eq!(refused(&without("Upgrade:")), Refusal::NotWebSocket);
    assert_eq!(refused(&without("Connection:")), Refusal::NotWebSocket);
    assert_eq!(refused(&without("Host:")).status(), 400);
    assert_eq!(refused(&without("Sec-WebSocket-Key:")).status(), 400);
    assert_eq!(refused(&BROWSER.replace("dGhl", "dGh")).status(), 400);
    assert_eq!(refused(&without("Sec-WebSocket-Version:")), Refusal::BadVersion);
    assert_eq!(refused(&BROWSER.replace(": 13", ": 8")), Refusal::BadVersion);
    assert_eq!(refused(&with("Sec-WebSocket-Version: 13")).status(), 400);
    assert_eq!(refused(&with("Content-Length: 4")).status(), 400);
    assert_eq!(refused(&with("Transfer-Encoding: chunked")).status(), 400);
    assert_eq!(refused(&with("no field")).status(), 400);
    assert_eq!(refused("\r\n\r\n").status(), 400);
    assert_eq!(refused(&with("a: b\r\n".repeat(60).trim_end())), Refusal::TooLarge);
    assert_eq!(refused(&with(&format!("a: {}", "b".repeat(MAX_HEAD)))), Refusal::TooLarge);
    let (request, _) = Request::parse(without("Sec-WebSocket-Protocol:").as_bytes()).unwrap().unwrap();
    assert_eq!(request.format(), Err(Refusal::BadSubprotocol));
}

/// A head that never ends costs no more than its bound.
#[test]
fn an_endless_head_is_refused() {
    let endless = "GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(MAX_HEAD);
    assert_eq!(refused(&endless[..MAX_HEAD]), Refusal::TooLarge);
    assert_eq!(Request::parse(&endless.as_bytes()[..MAX_HEAD - 1]), Ok(None));
}

#[test]
fn a_refusal_is_an_http_answer_that_says_why() {
    let refusals = [
        Refusal::BadRequest("x"),
        Refusal::NotGet,
        Refusal::TooLarge,
        Refusal::NotWebSocket,
        Refusal::BadVersion,
        Refusal::BadSubprotocol,
        Refusal::WrongOrigin,
        Refusal::NotFound,
        Refusal::Forbidden,
        Refusal::Busy { retry_after: Duration::from_millis(1500) },
    ];
    for refusal in refusals {
        let answer = refusal.response();
        let text = String::from_utf8(answer.clone()).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {} ", refusal.status())), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, format!("{refusal}\n"));
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        let retry_after_s = matches!(refusal, Refusal::Busy { .. }).then_some(2);
        let expected = UpgradeError::Status { status: refusal.status(), retry_after_s };
        assert_eq!(Response::parse(&answer, Format::Binary, NONCE), Err(expected));
    }
}
