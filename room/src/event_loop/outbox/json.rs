//! Frames as text. A shared frame becomes text once, however many devices want it so.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use wire::{
    codec::{decode_server_frame, encoded_prefix_len},
    frame::ServerFrame,
    json, ws,
};

/// Texts that are kept; a thread serves few broadcasts at a time.
const KEPT: usize = 16;
/// Bytes of them, and of the frames that they were made of. One may be larger.
const KEPT_BYTES: usize = 2 << 20;

/// The newest texts, each with the frame that it was made of: as long as that is held, no other can be in its place.
#[derive(Debug, Default)]
pub(super) struct Texts {
    kept: VecDeque<(Bytes, Bytes)>,
    bytes: usize,
}

impl Texts {
    /// A shared frame as a message. `None`: it cannot be.
    pub(super) fn of(&mut self, frame: &Bytes) -> Option<Bytes> {
        let is_it =
            |(kept, _): &&(Bytes, Bytes)| kept.as_ptr() == frame.as_ptr() && kept.len() == frame.len();
        if let Some((_, text)) = self.kept.iter().rev().find(is_it) {
            return Some(text.clone());
        }
        let text = Bytes::from(text(&read(frame.clone())?));
        self.bytes += frame.len() + text.len();
        self.kept.push_back((frame.clone(), text.clone()));
        while self.kept.len() > KEPT || self.bytes > KEPT_BYTES && self.kept.len() > 1 {
            let Some((frame, text)) = self.kept.pop_front() else { break };
            self.bytes -= frame.len() + text.len();
        }
        Some(text)
    }
}

/// A frame with its prefix, read; its payload shares the bytes.
pub(super) fn read(mut frame: Bytes) -> Option<ServerFrame> {
    frame.advance(encoded_prefix_len(frame.len()));
    decode_server_frame(frame).ok()
}

/// A frame as a message of text.
pub(super) fn text(frame: &ServerFrame) -> Vec<u8> {
    let json = json::encode_server(frame);
    let mut message = Vec::with_capacity(ws::header_len(json.len()) + json.len());
    ws::frame_into(&mut message, ws::Opcode::Text, &json);
    message
}
