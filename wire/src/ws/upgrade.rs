//! The HTTP request and response that turn a byte stream into a WebSocket.
//!
//! Both sides read a head of at most [`MAX_HEAD`] bytes, with at most 64 fields. What a request asks for is
//! checked in one place, [`Request::parse`]; what a server then thinks of its path, origin and subprotocol is the
//! server's, and [`Refusal`] has an answer for each.

mod accept;
mod client;
mod head;
mod refusal;
mod request;

pub use accept::accept;
pub use client::{Response, UpgradeError, request};
pub use refusal::Refusal;
pub use request::Request;

/// Longest head of a request or response in bytes: twice what a browser with many cookies sends.
pub const MAX_HEAD: usize = 8 * 1024;

/// Name of the cookie that names the room, for balancers that route by it.
pub const ROOM_COOKIE: &str = "longwire_room";
