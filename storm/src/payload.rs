//! What a storm's messages carry, so that their receiver can tell which they are and how old.

use bytes::{BufMut as _, Bytes, BytesMut};

/// First bytes of every payload of a storm.
const MAGIC: [u8; 2] = *b"St";

/// Stands in the place of the user in a broadcast.
pub const EVERYONE: u32 = u32::MAX;

/// The beginning of a payload; the rest is filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The run that sent it: what an earlier run left in the inboxes is not of this one.
    pub run: u32,
    /// The user it is meant for, or [`EVERYONE`].
    pub user: u32,
    /// 1, 2, 3… per user, and likewise for broadcasts.
    pub number: u64,
    /// When it was meant to be sent, on the scale of [`crate::clock::Clock`].
    pub sent_ns: u64,
}

impl Header {
    /// Bytes of an encoded header, and so the smallest payload.
    pub const LEN: usize = MAGIC.len() + 4 + 4 + 8 + 8;

    /// A payload of `len` bytes, or of [`Header::LEN`] if that is more.
    #[must_use]
    pub fn payload(&self, len: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(len.max(Self::LEN));
        out.put_slice(&MAGIC);
        out.put_u32(self.run);
        out.put_u32(self.user);
        out.put_u64(self.number);
        out.put_u64(self.sent_ns);
        // No zeros: a compressing middle box or disk would flatter the figures.
        let mut filling = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while out.len() < len {
            filling ^= filling << 13;
            filling ^= filling >> 7;
            filling ^= filling << 17;
            let rest = len - out.len();
            out.put_slice(&filling.to_le_bytes()[..rest.min(8)]);
        }
        out.freeze()
    }

    /// Reads the beginning of a payload; `None` if no storm made it.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&MAGIC)?;
        let (run, rest) = rest.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u32::from_be_bytes(*run),
            user: u32::from_be_bytes(*user),
            number: u64::from_be_bytes(*number),
            sent_ns: u64::from_be_bytes(*sent_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let header = Header { run: 7, user: EVERYONE, number: 1 << 40, sent_ns: 123_456_789_012 };
        for len in [0, Header::LEN, 31, 256] {
            let payload = header.payload(len);
            assert_eq!(payload.len(), len.max(Header::LEN));
            assert_eq!(Header::read(&payload), Some(header));
        }
        assert_eq!(Header::read(b"hello, this is no storm's payload"), None);
        assert_eq!(Header::read(&header.payload(0)[..Header::LEN - 1]), None);
    }
}
