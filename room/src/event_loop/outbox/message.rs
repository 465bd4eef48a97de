//! Frames as messages of a WebSocket: with another head, or as text.

use bytes::Bytes;
use wire::{
    codec::encoded_prefix_len,
    frame::{ServerBody, ServerFrame},
    ws,
};

use super::{Bits, Outbox, json};
use crate::{
    event_loop::line::{Kind, Shield},
    session::Class,
};

/// A shared frame up to this length is copied behind its head: that costs less than a slice and two counts of its own, and
/// whatever is smaller would be copied if it had to wait.
const COPIED: usize = 512;

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
            (Kind::Binary, _) if class != Class::Control => self.write_binary(slot, len, class, encode),
            (Kind::Binary | Kind::Json, _) => {
                let mut frame = Vec::with_capacity(len);
                encode(&mut frame);
                self.write_whole(slot, &frame, class)
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
        if self.has_backlog(slot) {
            let mut bytes = Vec::with_capacity(head);
            ws::header_into(&mut bytes, ws::Opcode::Binary, len);
            return self.extend_backlog(slot, bytes.into()) && self.extend_backlog(slot, frame.slice(prefix..));
        }
        let start = self.scratch.len() as u32;
        ws::header_into(&mut self.scratch, ws::Opcode::Binary, len);
        self.stage(slot, Bits::Built { start, end: self.scratch.len() as u32 });
        self.stage(slot, Bits::Shared(frame.slice(prefix..)));
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
    fn write_whole(&mut self, slot: u32, frame: &[u8], class: Class) -> bool {
        let close = if class == Class::Control { json::read(frame).and_then(close) } else { None };
        let mut out = Vec::new();
        if close.is_none() || self.websocket_code.is_none() {
            if self.speaks(slot).0 == Kind::Binary {
                ws::frame_into(&mut out, ws::Opcode::Binary, &frame[encoded_prefix_len(frame.len())..]);
            } else {
                match json::text(frame) {
                    Some(text) => out = text,
                    None => return self.unsayable(slot),
                }
            }
        }
        if let Some((code, words)) = close {
            ws::close_into(&mut out, self.websocket_code.unwrap_or(code), &words, None);
        }
        self.built(slot, out.len(), class, |buffer| buffer.extend_from_slice(&out))
    }
}

/// What a Close says in words of WebSocket.
fn close(frame: ServerFrame) -> Option<(u16, String)> {
    match frame.body {
        Some(ServerBody::Close(close)) => Some((ws::websocket_code(close.code()), close.message)),
        _ => None,
    }
}
