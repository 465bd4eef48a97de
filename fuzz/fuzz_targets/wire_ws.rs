//! What a room reads from a WebSocket, and a device too. A stream that comes in pieces means the same as one that comes
//! whole, and nothing is kept beyond the bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::ws::{Incoming, Receiver, WsError};

const MAX: usize = 4096;

fn receive(mut receiver: Receiver, mut stream: &[u8], piece: usize) -> (Vec<Incoming>, Option<WsError>) {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let (mut input, rest) = stream.split_at(piece.min(stream.len()));
        stream = rest;
        loop {
            match receiver.decode(&mut input) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
        assert!(input.is_empty());
        // A vector grows by doubling; the rest is the fixed part.
        assert!(receiver.held() <= 2 * MAX + 512);
    }
    assert!(!receiver.is_at_rest() || receiver.held() == 0);
    (all, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&setting, rest)) = data.split_first() else { return };
    let receiver = if setting & 0x80 == 0 { Receiver::for_server } else { Receiver::for_client };
    let whole = receive(receiver(MAX), rest, usize::MAX);
    assert_eq!(receive(receiver(MAX), rest, usize::from(setting & 0x7f).max(1)), whole);
    for incoming in &whole.0 {
        match incoming {
            Incoming::Text(text) => assert!(text.len() <= MAX && std::str::from_utf8(text).is_ok()),
            Incoming::Binary(bytes) => assert!(bytes.len() <= MAX),
            Incoming::Ping(payload) | Incoming::Pong(payload) => assert!(payload.len() <= 125),
            Incoming::Close(None) => {}
            Incoming::Close(Some((code, words))) => assert!((1000..5000).contains(code) && words.len() <= 123),
        }
    }
    let closes = whole.0.iter().filter(|incoming| matches!(incoming, Incoming::Close(_))).count();
    assert!(closes == 0 || closes == 1 && matches!(whole.0.last(), Some(Incoming::Close(_))));
});
