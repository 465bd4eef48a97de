//! The length prefix: a protobuf varint of at most 32 bits.

use super::WireError;

/// A 32-bit number takes at most five bytes of seven bits.
const MAX_BYTES: usize = 5;

/// Reads a length from the front of `bytes`: the length and how many bytes it took, or `None` if more
/// bytes are needed.
pub(super) fn read_length(bytes: &[u8]) -> Result<Option<(u32, usize)>, WireError> {
    let mut length = 0u64;
    for (index, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let length = u32::try_from(length).map_err(|_| WireError::BadVarint)?;
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() >= MAX_BYTES { Err(WireError::BadVarint) } else { Ok(None) }
}

/// Bytes of the length prefix of a frame that has `frame` bytes with it.
#[must_use]
pub const fn encoded_prefix_len(frame: usize) -> usize {
    match frame {
        0..=128 => 1,
        129..=16_385 => 2,
        16_386..=2_097_154 => 3,
        2_097_155..=268_435_459 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::encoded_len_varint;

    use super::*;

    #[test]
    fn a_frame_tells_the_length_of_its_prefix() {
        for bits in [0, 1, 7, 14, 21, 28, 31] {
            for len in [(1usize << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let prefix = encoded_len_varint(len as u64);
                assert_eq!(encoded_prefix_len(prefix + len), prefix, "{len}");
            }
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(read_length(&[]), Ok(None));
        assert_eq!(read_length(&[0]), Ok(Some((0, 1))));
        assert_eq!(read_length(&[0x7f, 9]), Ok(Some((127, 1))));
        assert_eq!(read_length(&[0xac, 0x02]), Ok(Some((300, 2))));
        assert_eq!(read_length(&[0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(read_length(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(Some((u32::MAX, 5))));
        assert_eq!(read_length(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(WireError::BadVarint));
        assert_eq!(read_length(&[0x80; 5]), Err(WireError::BadVarint));
    }
}
