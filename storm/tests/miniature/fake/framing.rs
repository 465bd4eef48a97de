//! Frames on a byte stream, in whichever way its device begins.

use std::io;

use prost::Message as _;
use wire::{
    ServerDecoder, codec,
    frame::{ClientFrame, ServerFrame},
    json,
    ws::{self, Format, Incoming, Opcode, Receiver, upgrade},
};

const MAX: usize = 64 * 1024;

pub(super) enum Framing {
    /// Nothing, or the beginning of an upgrade.
    Unknown(Vec<u8>),
    Native(ServerDecoder),
    Web(Receiver, Format),
}

impl Framing {
    /// Takes what came; what is to be answered at once goes into `out`.
    pub(super) fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> io::Result<Vec<ClientFrame>> {
        let mut frames = Vec::new();
        match self {
            Self::Unknown(head) if head.is_empty() && input[0] != b'G' => {
                *self = Self::Native(ServerDecoder::for_server(MAX));
                return self.take(input, out);
            }
            Self::Unknown(head) => {
                head.extend_from_slice(input);
                let head = head.clone();
                if let Some((request, len)) = upgrade::Request::parse(&head).map_err(io::Error::other)? {
                    let format = request.format().map_err(io::Error::other)?;
                    out.extend_from_slice(&upgrade::accept(&request, format, None));
                    // A sign of life and a question: a device must bear both.
                    ws::frame_into(out, Opcode::Ping, b"there?");
                    *self = Self::Web(Receiver::for_server(MAX), format);
                    if len < head.len() {
                        return self.take(&head[len..], out);
                    }
                }
            }
            Self::Native(decoder) => {
                while let Some(frame) = decoder.decode(&mut input).map_err(io::Error::other)? {
                    frames.push(frame);
                }
            }
            Self::Web(receiver, _) => {
                while let Some(incoming) = receiver.decode(&mut input).map_err(io::Error::other)? {
                    match incoming {
                        Incoming::Binary(bytes) => frames.push(ClientFrame::decode(bytes)?),
                        Incoming::Text(text) => {
                            frames.push(json::decode_client(&text).map_err(io::Error::other)?);
                        }
                        Incoming::Pong(bytes) => assert_eq!(&bytes[..], b"there?"),
                        Incoming::Ping(_) | Incoming::Close(_) => {}
                    }
                }
            }
        }
        Ok(frames)
    }

    /// A frame as it goes out.
    pub(super) fn put(&self, frame: &ServerFrame, out: &mut Vec<u8>) {
        match self {
            Self::Unknown(_) | Self::Native(_) => codec::encode_server_frame_into(frame, out),
            Self::Web(_, Format::Binary) => ws::frame_into(out, Opcode::Binary, &frame.encode_to_vec()),
            Self::Web(_, Format::Json) => ws::frame_into(out, Opcode::Text, &json::encode_server(frame)),
        }
    }
}
