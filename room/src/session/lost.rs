//! Bindings whose broadcasts have been numbered anew under them: the log was lost, and its numbers went back. What a device has
//! of the old numbering says nothing about the new one, so it binds again, with the place that it knows, and the saver tells
//! where that lies now. They are very many at once; they are told in parts.

use std::collections::VecDeque;

use roaring::RoaringBitmap;
use wire::{
    frame::{Unbound, UnboundReason},
    id::AppId,
};

use super::{Sessions, outlet::Outlet, tell};

/// Bindings that are told in one turn. A write takes about 7 µs, so these are 4 ms.
const TOLD: usize = 512;

/// Those who are still to be told, by app.
#[derive(Debug, Default)]
pub(crate) struct Lost(VecDeque<(AppId, RoaringBitmap)>);

impl Lost {
    /// Notes them.
    pub(crate) fn note(&mut self, app: AppId, members: RoaringBitmap) {
        match self.0.iter_mut().find(|(known, _)| *known == app) {
            Some((_, lost)) => *lost |= members,
            None => self.0.push_back((app, members)),
        }
    }

    /// A binding ends, for whatever reason. Whether its numbers mean nothing any more.
    pub(crate) fn forget(&mut self, app: AppId, slot: u32) -> bool {
        // Empty nearly always.
        self.0.iter_mut().any(|(known, lost)| *known == app && lost.remove(slot))
    }

    fn next(&mut self) -> Option<u32> {
        while let Some((_, lost)) = self.0.front() {
            match lost.min() {
                Some(slot) => return Some(slot),
                None => self.0.pop_front(),
            };
        }
        None
    }
}

impl Sessions {
    /// Ends some of them. `true`: there are more.
    pub(crate) fn end_lost(&mut self, out: &mut impl Outlet) -> bool {
        for _ in 0..TOLD {
            let Some(slot) = self.lost.next() else { return false };
            let Some(binding) = self.bindings.get(slot as usize).filter(|binding| binding.is_live()) else {
                // Every end forgets its binding, so there is none; nor may one keep the others from their turn.
                self.lost.0.iter_mut().take(1).for_each(|(_, lost)| {
                    lost.remove(slot);
                });
                continue;
            };
            let (conn, number) = (binding.conn, binding.number);
            self.end(slot);
            self.tally.unbound(UnboundReason::Lost);
            if !self.note_farewell(conn, number, UnboundReason::Lost) {
                tell(out, conn, Unbound { binding: number, reason: UnboundReason::Lost.into() });
            }
        }
        self.lost.next().is_some()
    }
}
