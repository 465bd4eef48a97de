//! Where frames begin and end in what waits, by what is spoken on the line, and messages read out of it again.
//!
//! Nothing of this is looked at while sockets take what they are given.

use bytes::Bytes;
use wire::{
    codec::{decode_server_frame, encode_push, encoded_prefix_len},
    frame::{Push, ServerBody, ServerFrame},
    json, ws,
};

use super::json::text;
use crate::event_loop::line::Kind;

/// Bytes of the head, and of the frame as a whole.
fn measure(kind: Kind, bytes: &[u8]) -> Option<(usize, usize)> {
    match kind {
        Kind::Native | Kind::Undecided | Kind::Request => {
            let mut len = 0;
            for (n, byte) in bytes.iter().enumerate().take(5) {
                len |= usize::from(byte & 0x7f) << (7 * n);
                if byte & 0x80 == 0 {
                    return Some((n + 1, n + 1 + len));
                }
            }
            None
        }
        Kind::Binary | Kind::Json => {
            let long = match bytes.get(1)? {
                126 => 2,
                127 => 8,
                short => return Some((2, 2 + usize::from(*short))),
            };
            let len = bytes.get(2..2 + long)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            Some((2 + long, 2 + long + len))
        }
    }
}

/// Bytes of the frame that begins here. What cannot be read is one with all that follows.
pub(super) fn frame_len(kind: Kind, bytes: &[u8]) -> usize {
    measure(kind, bytes).map_or(bytes.len(), |(_, len)| len)
}

/// The message that a frame is.
pub(super) fn read_push(kind: Kind, frame: &[u8]) -> Option<Push> {
    let (head, len) = measure(kind, frame)?;
    let body = frame.get(head..len)?;
    let read = match kind {
        Kind::Json => json::decode_server(body).ok()?,
        _ => decode_server_frame(Bytes::copy_from_slice(body)).ok()?,
    };
    match read.body? {
        ServerBody::Push(push) => Some(push),
        _ => None,
    }
}

/// A message as a frame.
pub(super) fn write_push(kind: Kind, push: &Push) -> Bytes {
    match kind {
        Kind::Native | Kind::Undecided | Kind::Request => encode_push(push),
        Kind::Binary => {
            let frame = encode_push(push);
            let mut out = Vec::with_capacity(ws::MAX_HEADER_LEN + frame.len());
            ws::frame_into(&mut out, ws::Opcode::Binary, &frame[encoded_prefix_len(frame.len())..]);
            out.into()
        }
        Kind::Json => text(&ServerFrame::from(push.clone())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_lengths_are_found_again() {
        for kind in [Kind::Native, Kind::Binary, Kind::Json] {
            for size in [0, 1, 100, 126, 127, 1_000, 65_535, 65_536, 200_000] {
                let payload = Bytes::from(vec![7; size]);
                let push = Push {
                    binding: 3,
                    seq: 9,
                    skip: 2,
                    id: 5,
                    payload,
                    collapse_key: "k".into(),
                    accepted_ms: 1,
                };
                let frame = write_push(kind, &push);
                let two = [&frame[..], &frame[..]].concat();
                assert_eq!(frame_len(kind, &two), frame.len(), "{kind:?}, {size}");
                assert_eq!(read_push(kind, &two), Some(push));
            }
        }
        assert_eq!(frame_len(Kind::Native, &[0xff; 9]), 9, "what cannot be read");
        assert_eq!(frame_len(Kind::Binary, &[0x82, 126, 1]), 3);
    }
}
