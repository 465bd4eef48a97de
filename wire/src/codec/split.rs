//! Taking a stream of frames apart without reading them.

use super::varint::read_length;

/// The messages of a stream of whole frames that this side has encoded, each without its length: what goes into one
/// message of a transport that keeps messages apart by itself. What is no whole frame ends it.
///
/// ```
/// use wire::{codec, frame::{ClientFrame, Ping}};
///
/// let stream = [codec::ping(), codec::ping()].concat();
/// let messages: Vec<&[u8]> = codec::messages(&stream).collect();
/// assert_eq!(messages, [b"\x32\x00", b"\x32\x00"]);
/// assert_eq!(codec::decode_client_frame(messages[0]), Ok(ClientFrame::from(Ping {})));
/// ```
pub fn messages(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let (len, start) = read_length(rest).ok().flatten()?;
        let (message, after) = rest[start..].split_at_checked(len as usize)?;
        rest = after;
        Some(message)
    })
}
