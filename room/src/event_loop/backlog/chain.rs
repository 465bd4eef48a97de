//! Bytes that leave in order, in pieces of very different sizes.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};

/// Pieces smaller than this are gathered: each by itself would take up to a hundred bytes of handles and allocator's heads,
/// many times what is counted for it.
const SMALL: usize = 1_024;
/// So much is gathered in one.
const CHUNK: usize = 4_096;

/// A piece is never torn apart between two chunks.
#[derive(Debug, Default)]
pub(super) struct Chain {
    chunks: VecDeque<Bytes>,
    /// Small pieces behind the chunks.
    tail: BytesMut,
    len: usize,
}

impl Chain {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        let small = bytes.len() < SMALL;
        if !small || self.tail.len() + bytes.len() > CHUNK {
            self.seal_tail();
        }
        if small {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.chunks.push_back(bytes);
        }
    }

    /// Puts all of another chain behind this one.
    pub(super) fn append(&mut self, other: &mut Self) {
        if other.len == 0 {
            return;
        }
        self.seal_tail();
        self.chunks.append(&mut other.chunks);
        self.tail = std::mem::take(&mut other.tail);
        self.len += std::mem::take(&mut other.len);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The chunks in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        self.chunks.iter().map(|chunk| &chunk[..]).chain(tail)
    }

    /// The first chunks, as many as fit; gives how many.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Takes the first bytes out, into another chain if there is one.
    pub(super) fn pop(&mut self, count: usize, mut into: Option<&mut Self>) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let taken = match self.chunks.front_mut() {
                // A shared broadcast stays whole in memory until its last holder is through; that is what sharing means.
                Some(chunk) if chunk.len() > left => chunk.split_to(left),
                Some(_) => self.chunks.pop_front().unwrap_or_default(),
                None => {
                    let taken = left.min(self.tail.len());
                    if let Some(into) = &mut into {
                        into.push(Bytes::copy_from_slice(&self.tail[..taken]));
                    }
                    self.tail.advance(taken);
                    if self.tail.is_empty() {
                        self.tail = BytesMut::new();
                    }
                    return;
                }
            };
            left -= taken.len();
            if let Some(into) = &mut into {
                into.push(taken);
            }
        }
    }

    /// Appends the first bytes to a buffer, at most `count`.
    pub(super) fn copy_front(&self, count: usize, out: &mut Vec<u8>) {
        let end = out.len() + count.min(self.len);
        for piece in self.pieces() {
            let missing = end - out.len();
            out.extend_from_slice(&piece[..missing.min(piece.len())]);
            if out.len() == end {
                return;
            }
        }
    }

    /// A piece that lies at this place.
    pub(super) fn piece(&self, mut at: usize, len: usize) -> Option<&[u8]> {
        for piece in self.pieces() {
            if at < piece.len() {
                return piece.get(at..at + len);
            }
            at -= piece.len();
        }
        None
    }

    /// Puts another in its place; nothing takes it out.
    pub(super) fn replace(&mut self, mut at: usize, len: usize, new: &[u8]) {
        let of = |old: &[u8], at: usize| [&old[..at], new, &old[at + len..]].concat();
        self.len = self.len - len + new.len();
        for index in 0..self.chunks.len() {
            let chunk = &self.chunks[index];
            if at < chunk.len() {
                // At most 4 KiB are copied: what is longer lies by itself.
                let rest = of(chunk, at);
                if rest.is_empty() {
                    self.chunks.remove(index);
                } else {
                    self.chunks[index] = rest.into();
                }
                return;
            }
            at -= chunk.len();
        }
        self.tail = BytesMut::from(&of(&self.tail, at)[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be written, in parts of at most `step` bytes.
    fn drain(mut chain: Chain, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while chain.len() > 0 {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = chain.slices(&mut slices);
            let taken: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            assert!(!taken.is_empty(), "what waits can be written");
            chain.pop(taken.len(), None);
            all.extend(taken);
        }
        all
    }

    const SIZES: [usize; 12] = [3, 20, 5_000, 1_023, 1_024, 1, 900, 900, 900, 900, 900, 2];

    fn filled() -> (Chain, Vec<Vec<u8>>) {
        let pieces: Vec<Vec<u8>> = SIZES.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let mut chain = Chain::default();
        pieces.iter().for_each(|piece| chain.push(piece.clone().into()));
        (chain, pieces)
    }

    #[test]
    fn pieces_of_all_sizes_leave_in_order() {
        for step in [1, 5, 700, 100_000] {
            let (chain, pieces) = filled();
            assert_eq!(chain.len(), pieces.concat().len());
            assert_eq!(drain(chain, step), pieces.concat(), "in steps of {step}");
        }
    }

    #[test]
    fn each_piece_can_be_read_replaced_and_moved() {
        for n in 0..SIZES.len() {
            let at: usize = SIZES[..n].iter().sum();
            for new in [&b""[..], b"other"] {
                let (mut chain, mut pieces) = filled();
                assert_eq!(chain.piece(at, SIZES[n]), Some(&pieces[n][..]));
                chain.replace(at, SIZES[n], new);
                pieces[n] = new.to_vec();
                assert_eq!(chain.len(), pieces.concat().len());
                assert_eq!(drain(chain, 999), pieces.concat());
            }
            let (mut chain, pieces) = filled();
            let mut front = Chain::default();
            front.push(Bytes::from_static(b"before "));
            chain.pop(at, Some(&mut front));
            front.append(&mut chain);
            assert_eq!(
                (chain.len(), drain(front, 999)),
                (0, [b"before ".to_vec(), pieces.concat()].concat())
            );
        }
    }

    /// A device that read nothing and was sent ten bytes at a time made the room hold ten times what its bound said.
    #[test]
    fn small_pieces_cost_little_more_than_their_bytes() {
        let mut chain = Chain::default();
        for _ in 0..26_214 {
            chain.push(Bytes::from_static(b"0123456789"));
        }
        assert!(chain.chunks.len() < 80, "{} chunks", chain.chunks.len());
    }
}
