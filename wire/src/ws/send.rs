//! What is sent.

use super::{MAX_CONTROL_PAYLOAD, Opcode, header::masked_header_into, header_into, mask};

/// Appends a server's frame: a whole message, or a control frame.
pub fn frame_into(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    header_into(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a client's frame: a whole message, or a control frame. `mask` is to be new and unpredictable for each.
pub fn masked_into(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    masked_header_into(out, opcode, payload.len());
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], mask);
}

/// Appends a Close with a code and words, which are cut short if they do not fit; a client's with its mask.
pub fn close_into(out: &mut Vec<u8>, code: u16, words: &str, mask: Option<[u8; 4]>) {
    let end = words.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2);
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&words.as_bytes()[..end]);
    match mask {
        Some(mask) => masked_into(out, Opcode::Close, &payload, mask),
        None => frame_into(out, Opcode::Close, &payload),
    }
}
