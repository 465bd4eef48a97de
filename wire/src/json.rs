//! The frames as JSON, by the rules of proto3: names in lowerCamelCase (those of `client.proto` are taken as well), 64-bit
//! numbers as strings (numbers are taken as well), bytes in base64 (with or without padding, also in the alphabet for
//! URLs), enums by name (numbers are taken as well). A field with its default value is left out.
//!
//! What a later version adds is ignored: fields, frames, and names of enums, which count as unspecified.
//!
//! There is no bound of length here: whoever reads the text from a connection has bounded it. Nesting is bounded,
//! and what is ignored costs no memory.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    WireError,
    frame::{ClientFrame, ServerFrame},
};

/// Longest words of an error: it may quote what a device sent.
const MAX_WORDS: usize = 200;

/// Reads a device's frame.
///
/// ```
/// use wire::{frame::Ack, json};
///
/// let text = br#"{"ack": {"binding": 1, "seq": "18", "epoch": 3}}"#;
/// let ack = Ack { binding: 1, seq: 18, epoch: 3, ..Ack::default() };
/// assert_eq!(json::decode_client(text), Ok(ack.into()));
/// ```
///
/// # Errors
/// [`WireError::BadJson`].
pub fn decode_client(text: &[u8]) -> Result<ClientFrame, WireError> {
    decode(text)
}

/// Reads a room's frame.
///
/// # Errors
/// [`WireError::BadJson`].
pub fn decode_server(text: &[u8]) -> Result<ServerFrame, WireError> {
    decode(text)
}

/// A device's frame as JSON.
#[must_use]
pub fn encode_client(frame: &ClientFrame) -> Vec<u8> {
    encode(frame)
}

/// A room's frame as JSON.
#[must_use]
pub fn encode_server(frame: &ServerFrame) -> Vec<u8> {
    encode(frame)
}

fn decode<F: DeserializeOwned>(text: &[u8]) -> Result<F, WireError> {
    serde_json::from_slice(text).map_err(|error| {
        let mut words = error.to_string();
        words.truncate(words.floor_char_boundary(MAX_WORDS));
        WireError::BadJson(words)
    })
}

/// A frame with an enum's number that this version does not know has no name for it, and becomes one without a body,
/// which its reader ignores. Whoever sends a frame has made it, so there is none.
fn encode(frame: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(frame).unwrap_or_else(|_| b"{}".to_vec())
}
