//! WebSocket (RFC 6455): bytes in, messages out, and back. No socket, no clock.
//!
//! - [`Receiver`]: the incremental decoder of either side;
//! - [`header_into`], [`frame_into`], [`masked_into`], [`close_into`]: what is sent;
//! - [`upgrade`]: the HTTP request and response before it all;
//! - [`Format`]: what a message holds, named by the subprotocol.
//!
//! A binary message is one frame of the protocol as protobuf, without the length that precedes it on a byte
//! stream; a text message is one as JSON ([`crate::json`]). No extension is offered or taken.
//!
//! The codec is our own, because a room holds hundreds of thousands of WebSockets at rest: the libraries that
//! are kept well own the socket's buffers and keep them for as long as the connection lives (`tungstenite` and
//! `fastwebsockets` both do), and what they offer below that reads a frame's header, which is the smaller part:
//! masks, fragments, UTF-8 and bounds would be ours in any case. HTTP heads are read by `httparse`.

mod close;
mod error;
mod format;
mod header;
mod incoming;
mod mask;
mod receiver;
mod send;
pub mod upgrade;

pub use close::{close_code_of, websocket_code};
pub use error::WsError;
pub use format::Format;
pub use header::{MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN, Opcode, header_into, header_len};
pub use incoming::Incoming;
pub use receiver::Receiver;
pub use send::{close_into, frame_into, masked_into};
