//! What a socket refused.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

/// Bytes that wait for one socket, in order.
#[derive(Debug)]
pub(crate) struct Backlog {
    chunks: VecDeque<Bytes>,
    len: usize,
    /// When the socket last took something, ms.
    moved_ms: u64,
}

impl Backlog {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { chunks: VecDeque::new(), len: 0, moved_ms: now_ms }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.chunks.push_back(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
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
        count
    }

    /// Forgets what the socket has taken.
    pub(crate) fn advance(&mut self, mut written: usize, now_ms: u64) {
        self.len -= written;
        self.moved_ms = now_ms;
        while written > 0 {
            let Some(chunk) = self.chunks.front_mut() else { return };
            if chunk.len() > written {
                // A shared broadcast stays whole in memory until its last holder is through; that is what sharing means.
                let _ = chunk.split_to(written);
                return;
            }
            written -= chunk.len();
            self.chunks.pop_front();
        }
    }
}
