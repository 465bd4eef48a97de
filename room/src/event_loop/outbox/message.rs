//! Frames as messages of a WebSocket: with another head, or as text.

use bytes::Bytes;
use wire::{codec::encoded_prefix_len, frame::ServerBody, ws};

use super::{Bits, Outbox, json};
use crate::{
    event_loop::{
        backlog::Mark,
        line::{Kind, Shield},
    },
    session::Class,
};

/// A shared frame up to this length is copied behind its head: that costs less than a slice and two counts of its own, and
/// whatever is smaller would be copied if it had to wait.
const COPIED: usize = 512;

/// Field 10 of `ServerFrame`, a message.
const CLOSE: u8 = 10 << 3 | 2;

impl Outbox {
    /// Takes a shared frame for a line that does not speak native frames.
    pub(super) fn share_message(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        match self.speaks(slot) {
            (Kind::Binary, _) => self.share_binary(slot, frame, class),
            (Kind::Json, _) => match self.texts.of(frame) {
                Some(text) => self.shared(slot, &text, class),
                None => self.unsayable(slot),
            },
            (Kind::Native, _) | (Kind::Undecided, Shield::Plain | Shield::Sealed) => {
                self.shared(slot, frame, class)
            }
            (Kind::Undecided, Shield::Shaking) | (Kind::Request, _) => self.unsayable(slot),
        }
    }

    /// Takes a frame of its own for a line that does not speak native frames.
    pub(super) fn write_message(
        &mut self,
        slot: u32,
        len: usize,
        class: Class,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        match self.speaks(slot) {
            // Last words are among these; they are worth a look.
            (Kind::Binary, _) if class != Class::Barrier => self.write_binary(slot, len, class, encode),
            (Kind::Binary | Kind::Json, _) => {
                let mut frame = Vec::with_capacity(len);
                encode(&mut frame);
                self.write_whole(slot, &frame.into(), class)
            }
            (Kind::Native, _) | (Kind::Undecided, Shield::Plain | Shield::Sealed) => {
                self.built(slot, len, class, encode)
            }
            (Kind::Undecided, Shield::Shaking) | (Kind::Request, _) => self.unsayable(slot),
        }
    }

    /// Nothing can be said on this line yet; what would have been its last word ends it.
    fn unsayable(&mut self, slot: u32) -> bool {
        self.kill(slot);
        false
    }

    fn share_binary(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        let prefix = encoded_prefix_len(frame.len());
        let len = frame.len() - prefix;
        let head = ws::header_len(len);
        if len <= COPIED {
            return self.built(slot, head + len, class, |out| {
                ws::frame_into(out, ws::Opcode::Binary, &frame[prefix..]);
            });
        }
        if !self.admit(slot, head + len, class) {
            return false;
        }
        if self.queues(slot) {
            let mut bytes = Vec::with_capacity(head);
            ws::header_into(&mut bytes, ws::Opcode::Binary, len);
            return self.enqueue(slot, class, Mark::Answer, [bytes.into(), frame.slice(prefix..)]);
        }
        let start = self.scratch.len() as u32;
        ws::header_into(&mut self.scratch, ws::Opcode::Binary, len);
        self.stage(slot, Bits::Built { start, end: self.scratch.len() as u32 }, class);
        self.stage_part(slot, Bits::Shared(frame.slice(prefix..)), class, true);
        true
    }

    /// The head of a message is longer than the prefix of a frame, so the frame is written where its prefix will be
    /// overwritten by the head.
    fn write_binary(
        &mut self,
        slot: u32,
        len: usize,
        class: Class,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let prefix = encoded_prefix_len(len);
        let payload = len - prefix;
        let head = ws::header_len(payload);
        self.built(slot, head + payload, class, |out| {
            let start = out.len();
            ws::header_into(out, ws::Opcode::Binary, payload);
            let mut bytes = [0; ws::MAX_HEADER_LEN];
            bytes[..head].copy_from_slice(&out[start..]);
            out.truncate(start + head - prefix);
            encode(out);
            out[start..start + head].copy_from_slice(&bytes[..head]);
        })
    }

    /// Takes a frame that has been encoded; after the last one the WebSocket is closed as well.
    fn write_whole(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        let is_text = self.speaks(slot).0 == Kind::Json;
        let is_last = class == Class::Barrier && is_close(frame);
        let read = if is_text || is_last { json::read(frame.clone()) } else { None };
        let mut out = Vec::new();
        match &read {
            _ if is_last && self.websocket_code.is_some() => {}
            Some(read) if is_text => out = json::text(read),
            _ => ws::frame_into(&mut out, ws::Opcode::Binary, &frame[encoded_prefix_len(frame.len())..]),
        }
        if is_last && let Some(ServerBody::Close(close)) = read.and_then(|read| read.body) {
            let code = self.websocket_code.unwrap_or(ws::websocket_code(close.code()));
            ws::close_into(&mut out, code, &close.message, None);
        }
        self.built(slot, out.len(), class, |buffer| buffer.extend_from_slice(&out))
    }
}

/// Whether a frame is the last one. Its first byte names the field of `ServerFrame` that it holds.
fn is_close(frame: &[u8]) -> bool {
    frame.get(encoded_prefix_len(frame.len())) == Some(&CLOSE)
}

#[cfg(test)]
mod tests {
    use wire::{
        codec::{encode_server_frame, pong},
        frame::Close,
    };

    use super::*;

    #[test]
    fn last_words_are_known_by_their_first_byte() {
        for message in ["", "x", &"x".repeat(1_000)] {
            let close = Close { code: 1, retry_after_ms: 0, message: message.to_owned() };
            assert!(is_close(&encode_server_frame(&close.into())));
        }
        assert!(!is_close(&pong()));
        assert!(!is_close(&[]));
    }
}
