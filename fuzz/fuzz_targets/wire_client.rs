//! What a device reads from a room. A stream that comes in pieces means the same as one that comes whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{ClientDecoder, WireError, frame::ServerFrame};

fn decode(mut stream: &[u8], piece: usize) -> (Vec<ServerFrame>, Option<WireError>) {
    let mut decoder = ClientDecoder::for_client(4096);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let (mut input, rest) = stream.split_at(piece.min(stream.len()));
        stream = rest;
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        // Twice what has arrived, and never what a prefix promises.
        assert!(decoder.held() <= 2 * 4096 + 64);
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, rest)) = data.split_first() else { return };
    let whole = decode(rest, usize::MAX);
    assert_eq!(decode(rest, usize::from(piece).max(1)), whole);
    for frame in &whole.0 {
        let encoded = wire::codec::encode_server_frame(frame);
        assert_eq!(decode(&encoded, usize::MAX).0.first(), Some(frame));
    }
});
