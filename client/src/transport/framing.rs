//! Between the session, which speaks the protocol's own framing, and the bytes of the transport. No I/O.

use wire::{
    ClientDecoder,
    codec::{self, PREAMBLE},
    frame::ServerFrame,
    json,
    limits::MAX_SERVER_FRAME,
    ws::{self, Format, Incoming, Opcode, Receiver},
};

use crate::session::Cause;

/// JSON carries payloads in base64, four bytes for three.
const MAX_JSON: usize = MAX_SERVER_FRAME / 3 * 4 + 4096;

/// A normal end, as RFC 6455 numbers it.
const NORMAL: u16 = 1000;

/// What turns a session's bytes into those of one connection, and back.
pub(crate) enum Framing {
    /// They are the same.
    Native(ClientDecoder),
    /// Each frame is a message.
    WebSocket(WebSocket),
}

pub(crate) struct WebSocket {
    receiver: Receiver,
    format: Format,
    /// Pongs, and the Close.
    reply: Vec<u8>,
    closed: bool,
}

impl Framing {
    /// The framing of a new connection, after the upgrade if there is one.
    pub(crate) fn new(format: Option<Format>) -> Self {
        let Some(format) = format else { return Self::Native(ClientDecoder::for_client(MAX_SERVER_FRAME)) };
        let max = match format {
            Format::Binary => MAX_SERVER_FRAME,
            Format::Json => MAX_JSON,
        };
        let receiver = Receiver::for_client(max);
        Self::WebSocket(WebSocket { receiver, format, reply: Vec::new(), closed: false })
    }

    /// Takes the next frame from the front of `input`, which it moves on; `None`: it has been used up.
    pub(crate) fn receive(&mut self, input: &mut &[u8]) -> Result<Option<ServerFrame>, Cause> {
        match self {
            Self::Native(decoder) => Ok(decoder.decode(input)?),
            Self::WebSocket(socket) => socket.receive(input),
        }
    }

    /// Appends to `out` what is to be sent for the session's bytes (which it has written since the last call), and for
    /// what has been received.
    pub(crate) fn send(&mut self, session: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Native(_) => out.extend_from_slice(session),
            Self::WebSocket(socket) => socket.send(session, out),
        }
    }

    /// What [`send`](Self::send) takes next is the last; it ends as far as the transport has a word for it.
    pub(crate) fn close(&mut self) {
        if let Self::WebSocket(socket) = self {
            socket.close(NORMAL);
        }
    }
}

impl WebSocket {
    fn receive(&mut self, input: &mut &[u8]) -> Result<Option<ServerFrame>, Cause> {
        while let Some(incoming) = self.receiver.decode(input).map_err(|error| {
            self.close(error.close_code());
            Cause::Violation(error.label())
        })? {
            match (incoming, self.format) {
                (Incoming::Binary(frame), Format::Binary) => {
                    return Ok(Some(codec::decode_server_frame(frame)?));
                }
                (Incoming::Text(frame), Format::Json) => return Ok(Some(json::decode_server(&frame)?)),
                (Incoming::Text(_) | Incoming::Binary(_), _) => {
                    return Err(Cause::Violation("a message of the other kind"));
                }
                (Incoming::Ping(payload), _) => {
                    ws::masked_into(&mut self.reply, Opcode::Pong, &payload, rand::random());
                }
                (Incoming::Pong(_), _) => {}
                (Incoming::Close(told), _) => {
                    self.close(NORMAL);
                    return Err(match told {
                        Some((code, message)) => Cause::Closed { code: ws::close_code_of(code), message },
                        None => Cause::Lost("closed by the room".to_owned()),
                    });
                }
            }
        }
        Ok(None)
    }

    fn send(&mut self, session: &[u8], out: &mut Vec<u8>) {
        // A WebSocket needs none: its subprotocol says the same.
        let frames = session.strip_prefix(&PREAMBLE).unwrap_or(session);
        for frame in codec::messages(frames) {
            match self.format {
                Format::Binary => ws::masked_into(out, Opcode::Binary, frame, rand::random()),
                Format::Json => {
                    // The session's own frame: it is well formed.
                    let Ok(frame) = codec::decode_client_frame(frame) else { continue };
                    ws::masked_into(out, Opcode::Text, &json::encode_client(&frame), rand::random());
                }
            }
        }
        // Last, because nothing may follow a Close.
        out.append(&mut self.reply);
    }

    /// The last frame, once.
    fn close(&mut self, code: u16) {
        if !self.closed {
            self.closed = true;
            ws::close_into(&mut self.reply, code, "", Some(rand::random()));
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::frame::{ClientFrame, CloseCode, Connect, Ping, Pong, Push};

    use super::*;

    fn receive_all(framing: &mut Framing, mut bytes: &[u8]) -> (Vec<ServerFrame>, Option<Cause>) {
        let mut frames = Vec::new();
        loop {
            match framing.receive(&mut bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(cause) => return (frames, Some(cause)),
            }
        }
    }

    /// What a session writes, as a room reads it from the transport.
    #[test]
    fn a_sessions_frames_arrive_over_each() {
        let frames: [ClientFrame; 2] =
            [Connect { device: "d".into(), ..Connect::default() }.into(), Ping {}.into()];
        let mut session = PREAMBLE.to_vec();
        frames.iter().for_each(|frame| codec::encode_client_frame_into(frame, &mut session));

        let mut native = Vec::new();
        Framing::new(None).send(&session, &mut native);
        assert_eq!(native, session);

        for format in Format::ALL {
            let mut bytes = Vec::new();
            Framing::new(Some(format)).send(&session, &mut bytes);
            let mut room = Receiver::for_server(1000);
            let mut input = &bytes[..];
            for frame in &frames {
                let arrived = match room.decode(&mut input).unwrap().unwrap() {
                    Incoming::Binary(frame) if format == Format::Binary => codec::decode_client_frame(&frame),
                    Incoming::Text(frame) if format == Format::Json => json::decode_client(&frame),
                    other => panic!("{other:?}"),
                };
                assert_eq!(arrived.as_ref(), Ok(frame));
            }
            assert_eq!(room.decode(&mut input), Ok(None));
        }
    }

    #[test]
    fn a_rooms_frames_arrive_and_pings_are_answered() {
        let frames: [ServerFrame; 2] = [Push { seq: 3, ..Push::default() }.into(), Pong {}.into()];
        for format in Format::ALL {
            let mut framing = Framing::new(Some(format));
            let mut bytes = Vec::new();
            for frame in &frames {
                let encoded = codec::encode_server_frame(frame);
                let binary = codec::messages(&encoded).next().unwrap();
                match format {
                    Format::Binary => ws::frame_into(&mut bytes, Opcode::Binary, binary),
                    Format::Json => ws::frame_into(&mut bytes, Opcode::Text, &json::encode_server(frame)),
                }
                ws::frame_into(&mut bytes, Opcode::Ping, b"?");
            }
            ws::close_into(&mut bytes, ws::websocket_code(CloseCode::Busy), "full", None);
            let (received, cause) = receive_all(&mut framing, &bytes);
            assert_eq!(received, frames);
            assert_eq!(cause, Some(Cause::Closed { code: CloseCode::Busy, message: "full".into() }));

            let mut out = Vec::new();
            framing.close();
            framing.send(&[], &mut out);
            let mut room = Receiver::for_server(1000);
            let mut input = &out[..];
            for expected in [Incoming::Pong("?".into()), Incoming::Pong("?".into())] {
                assert_eq!(room.decode(&mut input), Ok(Some(expected)));
            }
            assert_eq!(room.decode(&mut input), Ok(Some(Incoming::Close(Some((1000, String::new()))))));
            assert!(input.is_empty(), "one Close");
        }
    }

    #[test]
    fn what_is_no_frame_ends_it() {
        let mut wrong_kind = Vec::new();
        ws::frame_into(&mut wrong_kind, Opcode::Text, b"{}");
        let (_, cause) = receive_all(&mut Framing::new(Some(Format::Binary)), &wrong_kind);
        assert!(matches!(cause, Some(Cause::Violation(_))), "{cause:?}");

        let mut no_json = Vec::new();
        ws::frame_into(&mut no_json, Opcode::Text, b"{");
        let (_, cause) = receive_all(&mut Framing::new(Some(Format::Json)), &no_json);
        assert!(matches!(cause, Some(Cause::Wire(_))), "{cause:?}");

        let mut framing = Framing::new(Some(Format::Json));
        let (_, cause) = receive_all(&mut framing, b"\x81\x01\xff");
        assert_eq!(cause, Some(Cause::Violation("ws_bad_utf8")));
        let mut out = Vec::new();
        framing.send(&[], &mut out);
        let told = Receiver::for_server(1000).decode(&mut &out[..]);
        assert_eq!(told, Ok(Some(Incoming::Close(Some((1007, String::new()))))));
    }
}
