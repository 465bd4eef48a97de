//! What a room reads from a device. A stream that comes in pieces means the same as one that comes whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{ServerDecoder, WireError, frame::ClientFrame};

fn decode(mut stream: &[u8], piece: usize) -> (Vec<ClientFrame>, Option<WireError>) {
    let mut decoder = ServerDecoder::for_server(4096);
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
    // Most inputs are to get past the preamble.
    let stream = match piece & 0x80 {
        0 => [b"LW\x01", rest].concat(),
        _ => rest.to_vec(),
    };
    let whole = decode(&stream, usize::MAX);
    assert_eq!(decode(&stream, usize::from(piece & 0x7f).max(1)), whole);
    for frame in &whole.0 {
        let encoded = wire::codec::encode_client_frame(frame);
        let again = [b"LW\x01", &encoded[..]].concat();
        assert_eq!(decode(&again, usize::MAX).0.first(), Some(frame));
    }
});
