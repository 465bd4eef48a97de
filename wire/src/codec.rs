//! Bytes in, frames out, and back.
//!
//! On a byte stream the device first sends [`PREAMBLE`]; then each frame, both ways, is preceded by its
//! length in bytes as a varint.

mod decode;
mod encode;
mod error;
mod hot;
mod split;
mod varint;

pub use decode::{ClientDecoder, Decoder, ServerDecoder, decode_client_frame, decode_server_frame};
pub use encode::{
    encode_client_frame, encode_client_frame_into, encode_server_frame, encode_server_frame_into,
};
pub use error::WireError;
pub use hot::{
    MAX_ACK_LEN, ack_into, broadcast_for, encode_ack, encode_broadcast, encode_push, ping, pong, push_into,
    push_len,
};
pub use split::messages;
pub use varint::encoded_prefix_len;

/// First bytes of a native connection, sent by the device: a name that no TLS record and no HTTP request
/// begins with, and the version of the framing.
pub const PREAMBLE: [u8; 3] = *b"LW\x01";
