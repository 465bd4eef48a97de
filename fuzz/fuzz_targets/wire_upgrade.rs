//! The HTTP that begins a WebSocket: a request as a room reads it, and an answer as a device does. A head means the same
//! whatever follows it, and what is not taken has an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::ws::{
    Format,
    upgrade::{MAX_HEAD, ROOM_COOKIE, Request, Response, accept},
};

const NONCE: [u8; 16] = [7; 16];

fuzz_target!(|data: &[u8]| {
    match Request::parse(data) {
        Ok(Some((request, len))) => {
            assert!(len <= data.len() && len <= MAX_HEAD);
            assert_eq!(Request::parse(&data[..len]), Ok(Some((request.clone(), len))));
            assert_eq!(Request::parse(&data[..len - 1]), Ok(None));
            let _ = request.cookie(ROOM_COOKIE);
            let answer = accept(&request, request.format().unwrap_or(Format::Json), None);
            // Whatever a device puts into its request: the answer has the lines that we wrote and no other.
            assert_eq!(answer.iter().filter(|byte| **byte == b'\n').count(), 6);
        }
        Ok(None) => assert!(data.len() < MAX_HEAD),
        Err(refusal) => assert!(refusal.response().starts_with(b"HTTP/1.1 4")),
    }
    if let Ok(Some((_, len))) = Response::parse(data, Format::Binary, NONCE) {
        assert!(len <= data.len() && len <= MAX_HEAD);
    }
});
