//! The header of a frame.

use super::WsError;

/// Longest header of a frame: two bytes, eight of length, four of mask.
pub const MAX_HEADER_LEN: usize = 14;

/// Most bytes that a control frame carries.
pub const MAX_CONTROL_PAYLOAD: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Another fragment of the message.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Bytes, or their first fragment.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Asks for a Pong with the same payload.
    Ping = 9,
    /// Answers a Ping, or nothing.
    Pong = 10,
}

impl Opcode {
    pub(super) const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    const fn of(bits: u8) -> Result<Self, WsError> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(WsError::UnknownOpcode(other)),
        })
    }
}

/// A header that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) len: u64,
    pub(super) mask: Option<[u8; 4]>,
}

impl Header {
    /// Reads a header from the front of `bytes`: itself and how many bytes it took, or `None` if more bytes are
    /// needed. What the bytes at hand show to be wrong is refused without waiting for the others.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, WsError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(WsError::ReservedBits);
        }
        let (fin, opcode) = (first & FIN != 0, Opcode::of(first & 0x0f)?);
        if opcode.is_control() && !fin {
            return Err(WsError::FragmentedControl);
        }
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let (is_masked, short) = (second & MASKED != 0, second & !MASKED);
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(WsError::LongControl);
        }
        // A length in more bytes than it needs does no harm and is taken.
        let (len, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u16::from_be_bytes(*bytes).into(), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            short => (short.into(), rest),
        };
        if len >> 63 != 0 {
            return Err(WsError::BadLength);
        }
        let (mask, rest) = match rest.split_first_chunk() {
            Some((mask, rest)) if is_masked => (Some(*mask), rest),
            None if is_masked => return Ok(None),
            _ => (None, rest),
        };
        Ok(Some((Self { fin, opcode, len, mask }, bytes.len() - rest.len())))
    }
}

/// Bytes of the header that [`header_into`] appends.
#[must_use]
pub const fn header_len(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends the header of a server's frame that is a whole message, or a control frame.
pub fn header_into(out: &mut Vec<u8>, opcode: Opcode, payload: usize) {
    put(out, opcode, payload, 0);
}

/// The header of a client's frame, without the mask that follows it.
pub(super) fn masked_header_into(out: &mut Vec<u8>, opcode: Opcode, payload: usize) {
    put(out, opcode, payload, MASKED);
}

fn put(out: &mut Vec<u8>, opcode: Opcode, payload: usize, masked: u8) {
    out.push(FIN | opcode as u8);
    match payload {
        0..=125 => out.push(masked | payload as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 0x1_0001, 1 << 40] {
            let mut bytes = Vec::new();
            header_into(&mut bytes, Opcode::Binary, len);
            assert_eq!(bytes.len(), header_len(len));
            for cut in 0..bytes.len() {
                assert_eq!(Header::read(&bytes[..cut]), Ok(None));
            }
            let header = Header { fin: true, opcode: Opcode::Binary, len: len as u64, mask: None };
            assert_eq!(Header::read(&bytes), Ok(Some((header, bytes.len()))));
        }
    }

    #[test]
    fn what_is_wrong_is_seen_at_once() {
        let cases: [(&[u8], WsError); 6] = [
            (b"\xc1", WsError::ReservedBits),
            (b"\x83", WsError::UnknownOpcode(3)),
            (b"\x8b", WsError::UnknownOpcode(11)),
            (b"\x09", WsError::FragmentedControl),
            (b"\x89\x7e", WsError::LongControl),
            (b"\x82\x7f\xff\0\0\0\0\0\0\0", WsError::BadLength),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::read(bytes), Err(error));
        }
    }
}
