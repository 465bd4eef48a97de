//! Encoders of any frame. The frequent ones have their own in [`super::hot`].

use bytes::Bytes;
use prost::Message;

use crate::frame::{ClientFrame, ServerFrame};

/// A room's frame with its length prefix.
#[must_use]
pub fn encode_server_frame(frame: &ServerFrame) -> Bytes {
    encode(frame)
}

/// A device's frame with its length prefix.
#[must_use]
pub fn encode_client_frame(frame: &ClientFrame) -> Bytes {
    encode(frame)
}

/// Appends a room's frame with its length prefix.
pub fn encode_server_frame_into(frame: &ServerFrame, out: &mut Vec<u8>) {
    encode_into(frame, out);
}

/// Appends a device's frame with its length prefix.
pub fn encode_client_frame_into(frame: &ClientFrame, out: &mut Vec<u8>) {
    encode_into(frame, out);
}

fn encode(frame: &impl Message) -> Bytes {
    let mut out = Vec::new();
    encode_into(frame, &mut out);
    out.into()
}

fn encode_into(frame: &impl Message, out: &mut Vec<u8>) {
    let len = frame.encoded_len();
    out.reserve(prost::length_delimiter_len(len) + len);
    prost::encoding::encode_varint(len as u64, out);
    frame.encode_raw(out);
}
