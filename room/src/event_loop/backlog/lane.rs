//! Frames of one rank, in order, with what has to be known of each.

use std::collections::VecDeque;

use bytes::Bytes;

use super::chain::Chain;

/// Answers that follow each other count as one frame up to this length, so that a thousand pongs cost little more than their
/// bytes.
const RUN: usize = 1_024;

/// What a frame is, for those that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event_loop) enum Mark {
    /// A broadcast: in an order of its own.
    Broadcast,
    /// An answer or a notice.
    Answer,
    /// A message of an inbox: the device's number of the binding, and the hash of its key; 0 = it has none.
    Stored(u32, u64),
    /// A message without a number, likewise.
    Transient(u32, u64),
}

impl Mark {
    /// The binding that a message is for.
    pub(super) fn binding(self) -> Option<u32> {
        match self {
            Self::Stored(binding, _) | Self::Transient(binding, _) => Some(binding),
            Self::Broadcast | Self::Answer => None,
        }
    }

    /// Whether a message takes the place of an earlier one. A message without a number never does of one with: the device
    /// would not learn that the number holds nothing.
    pub(super) fn replaces(self, earlier: Self) -> bool {
        match (self, earlier) {
            (Self::Stored(_, key), Self::Stored(_, other) | Self::Transient(_, other))
            | (Self::Transient(_, key), Self::Transient(_, other)) => {
                key != 0 && key == other && self.binding() == earlier.binding()
            }
            _ => false,
        }
    }
}

/// One frame: 24 bytes beside its own.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) len: u32,
    pub(super) mark: Mark,
}

/// Frames of one rank.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) chain: Chain,
    pub(super) frames: VecDeque<Frame>,
}

impl Lane {
    /// Puts a frame, which may lie in several pieces, at the end.
    pub(super) fn push(&mut self, mark: Mark, parts: impl IntoIterator<Item = Bytes>) {
        let before = self.chain.len();
        parts.into_iter().for_each(|part| self.chain.push(part));
        let len = self.chain.len() - before;
        match self.frames.back_mut() {
            Some(last)
                if last.mark == Mark::Answer && mark == last.mark && last.len as usize + len <= RUN =>
            {
                last.len += len as u32;
            }
            _ => self.frames.push_back(Frame { len: len as u32, mark }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether something of a binding's inbox waits.
    pub(super) fn has(&self, binding: u32) -> bool {
        self.frames.iter().any(|frame| frame.mark.binding() == Some(binding))
    }

    /// Moves what there is of a binding's to the end of another lane.
    pub(super) fn extract(&mut self, binding: u32, into: &mut Self) {
        let mut rest = Self::default();
        while let Some(frame) = self.frames.pop_front() {
            let to = if frame.mark.binding() == Some(binding) { &mut *into } else { &mut rest };
            self.chain.pop(frame.len as usize, Some(&mut to.chain));
            to.frames.push_back(frame);
        }
        *self = rest;
    }

    /// Forgets what has been written; gives how many bytes of the first frame are left, if it was begun.
    pub(super) fn advance(&mut self, written: &mut usize) -> Option<usize> {
        while *written > 0 {
            let frame = self.frames.pop_front()?;
            let len = frame.len as usize;
            let part = len.min(*written);
            self.chain.pop(part, None);
            *written -= part;
            if part < len {
                return Some(len - part);
            }
        }
        if self.frames.is_empty() {
            // A burst leaves no buffer behind.
            self.frames = VecDeque::new();
        }
        None
    }

    /// Where a frame begins.
    pub(super) fn offset(&self, index: usize) -> usize {
        self.frames.range(..index).map(|frame| frame.len as usize).sum()
    }
}
