//! What a socket refused. A frame that has been begun goes on; of the others those go first that may overtake.

mod chain;
mod lane;

use std::io::IoSlice;

use bytes::{Buf as _, Bytes, BytesMut};

use self::{chain::Chain, lane::Lane};
use crate::session::Class;

pub(super) use self::lane::Mark;

const URGENT: usize = 0;
const UNICAST: usize = 1;

/// A frame that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    lane: usize,
    index: usize,
}

/// Frames that wait for one socket. Each leaves as a whole; see [`Class`] for their order.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// What has been begun, and what was put in order by a [`Class::Barrier`].
    front: Chain,
    lanes: [Lane; 3],
    /// Sealed, and on its way before all else; only on lines with TLS.
    sealed: BytesMut,
    /// When the socket last took something, ms.
    moved_ms: u64,
}

impl Backlog {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { front: Chain::default(), lanes: Default::default(), sealed: BytesMut::new(), moved_ms: now_ms }
    }

    /// Takes what is left of a frame that has been begun.
    pub(super) fn push_begun(&mut self, bytes: Bytes) {
        self.front.push(bytes);
    }

    /// Takes a frame, in one or several pieces.
    pub(super) fn push(&mut self, class: Class, mark: Mark, parts: impl IntoIterator<Item = Bytes>) {
        let [urgent, unicast, broadcast] = &mut self.lanes;
        match class {
            Class::Data => broadcast.push(Mark::Broadcast, parts),
            Class::Unicast | Class::Page | Class::Control => unicast.push(mark, parts),
            Class::Urgent => {
                if let Some(binding) = mark.binding().filter(|binding| unicast.has(*binding)) {
                    unicast.extract(binding, urgent);
                }
                urgent.push(mark, parts);
            }
            Class::Barrier => {
                for lane in &mut self.lanes {
                    self.front.append(&mut std::mem::take(lane).chain);
                }
                parts.into_iter().for_each(|part| self.front.push(part));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.unsealed() + self.sealed.len()
    }

    fn unsealed(&self) -> usize {
        self.front.len() + self.lanes.iter().map(|lane| lane.chain.len()).sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether more than broadcasts, and what has been begun, waits.
    pub(super) fn has_unicasts(&self) -> bool {
        !self.lanes[URGENT].is_empty() || !self.lanes[UNICAST].is_empty()
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

    fn chains(&self) -> impl Iterator<Item = &Chain> {
        std::iter::once(&self.front).chain(self.lanes.iter().map(|lane| &lane.chain))
    }

    /// Takes out up to `count` bytes that are not sealed.
    pub(crate) fn take(&mut self, count: usize, out: &mut Vec<u8>, now_ms: u64) {
        let end = out.len() + count.min(self.unsealed());
        let before = out.len();
        for chain in self.chains() {
            chain.copy_front(end - out.len(), out);
        }
        self.advance(end - before, now_ms);
    }

    pub(crate) fn moved_ms(&self) -> u64 {
        self.moved_ms
    }

    /// The first chunks, as many as fit; gives how many.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for chain in self.chains() {
            count += chain.slices(&mut slices[count..]);
        }
        count
    }

    /// Forgets what the socket has taken of them. A frame that it has not taken whole goes before all others.
    pub(crate) fn advance(&mut self, mut written: usize, now_ms: u64) {
        self.moved_ms = now_ms;
        let first = written.min(self.front.len());
        self.front.pop(first, None);
        written -= first;
        for lane in &mut self.lanes {
            if let Some(left) = lane.advance(&mut written) {
                return lane.chain.pop(left, Some(&mut self.front));
            }
        }
    }

    /// The message whose place this one takes, if that has not been begun.
    pub(super) fn replaced_by(&self, mark: Mark) -> Option<Place> {
        let of = |lane: usize| {
            let index = self.lanes[lane].frames.iter().position(|frame| mark.replaces(frame.mark))?;
            Some(Place { lane, index })
        };
        of(URGENT).or_else(|| of(UNICAST))
    }

    /// The next message of the same inbox.
    pub(super) fn follower(&self, place: Place) -> Option<Place> {
        let binding = self.lanes[place.lane].frames.get(place.index)?.mark.binding()?;
        let of = |lane: usize, from: usize| {
            let frames = &self.lanes[lane].frames;
            let is_next = |index: &usize| matches!(frames[*index].mark, Mark::Stored(of, _) if of == binding);
            (from..frames.len()).find(is_next).map(|index| Place { lane, index })
        };
        let behind = of(place.lane, place.index + 1);
        behind.or_else(|| if place.lane == URGENT { of(UNICAST, 0) } else { None })
    }

    /// A frame that lies in one piece.
    pub(super) fn frame(&self, place: Place) -> Option<&[u8]> {
        let lane = &self.lanes[place.lane];
        lane.chain.piece(lane.offset(place.index), lane.frames.get(place.index)?.len as usize)
    }

    /// Puts another frame in its place.
    pub(super) fn replace(&mut self, place: Place, new: &[u8]) {
        let lane = &mut self.lanes[place.lane];
        let at = lane.offset(place.index);
        if let Some(frame) = lane.frames.get_mut(place.index) {
            lane.chain.replace(at, frame.len as usize, new);
            frame.len = new.len() as u32;
        }
    }

    /// Takes a frame out.
    pub(super) fn remove(&mut self, place: Place) {
        self.replace(place, &[]);
        self.lanes[place.lane].frames.remove(place.index);
    }
}

#[cfg(test)]
mod tests;
