//! The protocol between a device and a room: bytes in, frames out, and back. No socket, no clock.
//!
//! - [`id`]: the identifiers that every crate shares, parsed once into types that cannot be wrong;
//! - [`frame`]: the frames, generated from `client.proto`;
//! - [`codec`]: preamble, framing, decoders and encoders;
//! - [`json`]: the same frames as text, for browsers without a protobuf library;
//! - [`ws`]: WebSocket, for browsers and for networks that let nothing else through;
//! - [`close`]: what each close code asks of a device;
//! - [`limits`]: the protocol's bounds.
//!
//! `docs/protocol.md` tells the same to whoever writes an SDK in another language.

pub mod close;
pub mod codec;
pub mod frame;
pub mod id;
pub mod json;
pub mod limits;
pub mod ws;

pub use codec::{ClientDecoder, Decoder, ServerDecoder, WireError};
