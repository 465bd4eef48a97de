//! What a socket refused.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};

/// Pieces smaller than this are gathered: each by itself would take up to a hundred bytes of handles and allocator's heads,
/// many times what is counted for it.
const SMALL: usize = 1_024;
/// So much is gathered in one.
const CHUNK: usize = 4_096;

/// Bytes that wait for one socket, in order.
#[derive(Debug)]
pub(crate) struct Backlog {
    chunks: VecDeque<Bytes>,
    /// Small pieces behind the chunks.
    tail: BytesMut,
    len: usize,
    /// Sealed, and on its way before all else; only on lines with TLS.
    sealed: BytesMut,
    /// When the socket last took something, ms.
    moved_ms: u64,
}

impl Backlog {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            len: 0,
            sealed: BytesMut::new(),
            moved_ms: now_ms,
        }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        let small = bytes.len() < SMALL;
        if !self.tail.is_empty() && (!small || self.tail.len() + bytes.len() > CHUNK) {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
        if small {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.chunks.push_back(bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len + self.sealed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what has been sealed.
    pub(crate) fn push_sealed(&mut self, bytes: &[u8]) {
        self.sealed.extend_from_slice(bytes);
    }

    pub(crate) fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    pub(crate) fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// Forgets what the socket has taken of it.
    pub(crate) fn advance_sealed(&mut self, written: usize, now_ms: u64) {
        self.moved_ms = now_ms;
        self.sealed.advance(written);
        if self.sealed.is_empty() {
            self.sealed = BytesMut::new();
        }
    }

    /// Takes out up to `count` bytes that are not sealed.
    pub(crate) fn take(&mut self, count: usize, out: &mut Vec<u8>, now_ms: u64) {
        let end = out.len() + count.min(self.len);
        for chunk in self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]) {
            let missing = end - out.len();
            out.extend_from_slice(&chunk[..missing.min(chunk.len())]);
            if missing <= chunk.len() {
                break;
            }
        }
        self.advance(count.min(self.len), now_ms);
    }

    pub(crate) fn moved_ms(&self) -> u64 {
        self.moved_ms
    }

    /// The first chunks, as many as fit; gives how many.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        if count == self.chunks.len() && count < slices.len() && !self.tail.is_empty() {
            slices[count] = IoSlice::new(&self.tail);
            count += 1;
        }
        count
    }

    /// Forgets what the socket has taken.
    pub(crate) fn advance(&mut self, mut written: usize, now_ms: u64) {
        self.len -= written;
        self.moved_ms = now_ms;
        while written > 0 {
            let Some(chunk) = self.chunks.front_mut() else { return self.advance_tail(written) };
            if chunk.len() > written {
                // A shared broadcast stays whole in memory until its last holder is through; that is what sharing means.
                let _ = chunk.split_to(written);
                return;
            }
            written -= chunk.len();
            self.chunks.pop_front();
        }
    }

    fn advance_tail(&mut self, written: usize) {
        self.tail.advance(written.min(self.tail.len()));
        if self.tail.is_empty() {
            self.tail = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be written, in parts of at most `step` bytes.
    fn drain(backlog: &mut Backlog, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !backlog.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = backlog.slices(&mut slices);
            let taken: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            assert!(!taken.is_empty(), "what waits can be written");
            backlog.advance(taken.len(), 7);
            all.extend(taken);
        }
        assert_eq!((backlog.len(), backlog.moved_ms()), (0, 7));
        all
    }

    #[test]
    fn pieces_of_all_sizes_leave_in_order() {
        for step in [1, 5, 700, 100_000] {
            let (mut backlog, mut all) = (Backlog::new(0), Vec::new());
            for (n, size) in
                [3, 20, 5_000, 1_023, 1_024, 1, 900, 900, 900, 900, 900, 2].into_iter().enumerate()
            {
                let piece = vec![n as u8; size];
                all.extend_from_slice(&piece);
                backlog.push(piece.into());
            }
            assert_eq!(backlog.len(), all.len());
            assert_eq!(drain(&mut backlog, step), all, "in steps of {step}");
        }
    }

    /// A device that read nothing and was sent ten bytes at a time made the room hold ten times what its bound said.
    #[test]
    fn small_pieces_cost_little_more_than_their_bytes() {
        let mut backlog = Backlog::new(0);
        for _ in 0..26_214 {
            backlog.push(Bytes::from_static(b"0123456789"));
        }
        assert!(backlog.chunks.len() < 80, "{} chunks", backlog.chunks.len());
    }
}
