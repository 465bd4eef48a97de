//! WebSockets: the request that begins one, and what comes in after it.

use wire::{
    WireError,
    codec::decode_client_frame,
    frame::{ClientFrame, CloseCode},
    json,
    ws::{
        self, Format, Incoming, Opcode, WsError,
        upgrade::{Refusal, Request, accept},
    },
};

use super::{
    EventLoop,
    line::{Begun, Kind, Shield},
    read::Step,
};
use crate::{clock::Now, session::Class};

/// A message of the kind that was not agreed on (RFC 6455, 7.4.1).
const WRONG_KIND: u16 = 1003;
/// A message that is no frame.
const BAD_FRAME: u16 = 1007;
/// How much longer a frame may be as JSON: base64 adds a third, and names have to be spelled out.
const JSON_GROWTH: usize = 2;

impl EventLoop {
    /// The request for a WebSocket, as far as it has come.
    pub(super) fn feed_request(&mut self, slot: u32, input: &mut &[u8]) -> Step {
        let kept = match self.outbox.take_begun(slot) {
            Some(Begun::Request(mut kept)) => {
                kept.extend_from_slice(input);
                Some(kept)
            }
            _ => None,
        };
        let head = kept.as_deref().unwrap_or(input);
        match Request::parse(head) {
            Ok(None) => {
                let head = kept.unwrap_or_else(|| input.to_vec());
                self.outbox.keep_begun(slot, Begun::Request(head));
                Step::All
            }
            Ok(Some((request, taken))) => {
                // What was kept before did not hold the end of the head, so what follows it lies in the input.
                let rest = head.len() - taken;
                *input = &input[input.len() - rest..];
                self.upgrade(slot, &request)
            }
            Err(refusal) => self.refuse_upgrade(slot, refusal),
        }
    }

    fn upgrade(&mut self, slot: u32, request: &Request) -> Step {
        let Some(door) = &self.doors.websocket else { return self.refuse_upgrade(slot, Refusal::Forbidden) };
        let format = match door.admits(request).and_then(|()| request.format()) {
            Ok(format) => format,
            Err(refusal) => return self.refuse_upgrade(slot, refusal),
        };
        let cookie = door.cookie(self.outbox.speaks(slot).1 == Shield::Sealed);
        let answer = accept(request, format, cookie.as_deref());
        self.outbox.decide(
            slot,
            match format {
                Format::Binary => Kind::Binary,
                Format::Json => Kind::Json,
            },
        );
        if self.outbox.say(slot, &answer, Class::Barrier) { Step::Again } else { Step::Stop }
    }

    fn refuse_upgrade(&mut self, slot: u32, refusal: Refusal) -> Step {
        tracing::debug!(slot, %refusal, "no WebSocket");
        self.entries.refused_upgrades.count(refusal.label());
        self.outbox.farewell(slot, &refusal.response());
        Step::Stop
    }

    /// Messages, and what is between them.
    pub(super) fn feed_messages(&mut self, slot: u32, input: &mut &[u8], now: Now) -> Step {
        let is_text = self.outbox.speaks(slot).0 == Kind::Json;
        let mut receiver = match self.outbox.take_begun(slot) {
            Some(Begun::Message(receiver)) => receiver,
            _ if is_text => ws::Receiver::for_server(self.max_frame * JSON_GROWTH),
            _ => ws::Receiver::for_server(self.max_frame),
        };
        loop {
            let step = match receiver.decode(input) {
                Ok(Some(incoming)) => self.on_incoming(slot, incoming, is_text, now),
                Ok(None) => break,
                Err(error) => self.break_websocket(slot, &error, now),
            };
            if step != Step::All {
                return step;
            }
        }
        if !receiver.is_at_rest() {
            self.outbox.keep_begun(slot, Begun::Message(receiver));
        }
        Step::All
    }

    fn on_incoming(&mut self, slot: u32, incoming: Incoming, is_text: bool, now: Now) -> Step {
        match incoming {
            Incoming::Binary(bytes) if !is_text => self.hear_read(slot, decode_client_frame(&bytes), now),
            Incoming::Text(bytes) if is_text => self.hear_read(slot, json::decode_client(&bytes), now),
            Incoming::Binary(_) | Incoming::Text(_) => {
                let words = if is_text {
                    "longwire.v1.json is spoken in text"
                } else {
                    "longwire.v1 is spoken in binary"
                };
                self.end_websocket(slot, WRONG_KIND, CloseCode::BadFrame, words, now)
            }
            Incoming::Ping(payload) => {
                if !self.hears_life(slot, now) {
                    return Step::Stop;
                }
                let mut pong = Vec::with_capacity(payload.len() + 2);
                ws::frame_into(&mut pong, Opcode::Pong, &payload);
                if self.outbox.say(slot, &pong, Class::Control) { Step::All } else { Step::Stop }
            }
            Incoming::Pong(_) => {
                if self.hears_life(slot, now) {
                    Step::All
                } else {
                    Step::Stop
                }
            }
            Incoming::Close(why) => {
                let mut answer = Vec::new();
                match &why {
                    Some((code, _)) => ws::close_into(&mut answer, *code, "", None),
                    None => ws::frame_into(&mut answer, Opcode::Close, &[]),
                }
                // A page that is closed or reloaded does not say why, and its next will not resume.
                if why.is_none_or(|(code, _)| matches!(code, 1000 | 1001)) {
                    self.sessions.leave(slot);
                }
                self.outbox.farewell(slot, &answer);
                Step::Stop
            }
        }
    }

    fn hear_read(&mut self, slot: u32, frame: Result<ClientFrame, WireError>, now: Now) -> Step {
        match frame {
            Ok(frame) => self.hear(slot, frame, now),
            Err(error) => self.end_websocket(slot, BAD_FRAME, error.close_code(), &error.to_string(), now),
        }
    }

    /// A sign of life that is no frame; it counts as one.
    fn hears_life(&mut self, slot: u32, now: Now) -> bool {
        self.sessions.on_life(slot, now, &mut self.outbox)
    }

    /// What came is no WebSocket.
    fn break_websocket(&mut self, slot: u32, error: &WsError, now: Now) -> Step {
        let code = match error {
            WsError::TooLarge { .. } => CloseCode::TooLarge,
            _ => CloseCode::BadFrame,
        };
        self.entries.broken_websockets.count(error.label());
        self.end_websocket(slot, error.close_code(), code, &error.to_string(), now)
    }

    /// Ends a connection in words of WebSocket, because of WebSocket.
    fn end_websocket(&mut self, slot: u32, code: u16, why: CloseCode, words: &str, now: Now) -> Step {
        self.outbox.websocket_code = Some(code);
        self.sessions.close(slot, why, words, now, &mut self.outbox);
        self.outbox.websocket_code = None;
        Step::Stop
    }
}
