//! The mask of a client's frames.

/// Puts the mask on, or takes it off. Returns the mask as it goes on after these bytes.
pub(super) fn apply(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    // Eight bytes at a time is what a compiler makes vector instructions of.
    let mut wide = [0; 8];
    wide[..4].copy_from_slice(&mask);
    wide[4..].copy_from_slice(&mask);
    let wide = u64::from_ne_bytes(wide);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_pieces_as_in_one() {
        let mask = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..50).collect();
        let expected: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        for cut in 0..plain.len() {
            let mut bytes = plain.clone();
            let (head, tail) = bytes.split_at_mut(cut);
            let next = apply(head, mask);
            apply(tail, next);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }
}
