//! A flash disconnect: a connection whose socket broke without a word is kept for a grace as a *ghost*. It has no socket;
//! its slot, its generation and its live bindings stay, so nobody is told: not the register, not the app. Stored messages wait
//! in the inbox, broadcasts in the log, and transient ones are dropped. After the grace it ends like any other.
//!
//! Who makes no ghost: a connection that the room itself ended, a device that said [`Leave`](wire::frame::Leave), and one whose
//! heartbeat failed to come: its silence has been its grace, and the app is to hear that it is gone.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use wire::frame::UnboundReason;

use super::{
    Sessions,
    binding::{NONE, State},
    connection::Phase,
};
use crate::clock::Now;

/// What a device has to be told about its bindings when it comes back, by connection. An entry takes less than the binding that
/// is gone, and goes with its ghost.
#[derive(Debug, Default)]
pub(crate) struct Farewells(HashMap<u32, Vec<(u32, UnboundReason)>, RandomState>);

impl Farewells {
    fn note(&mut self, conn: u32, number: u32, reason: UnboundReason) {
        self.0.entry(conn).or_default().push((number, reason));
    }

    /// Takes what there is for a connection.
    pub(crate) fn take(&mut self, conn: u32) -> Vec<(u32, UnboundReason)> {
        // The usual case hashes nothing.
        if self.0.is_empty() { Vec::new() } else { self.0.remove(&conn).unwrap_or_default() }
    }
}

impl Sessions {
    /// The socket broke: the peer is gone, or nothing can be written. The connection may stay as a ghost, without a socket.
    pub fn on_lost(&mut self, slot: u32, now: Now) {
        if !self.may_stay(slot) {
            return self.on_closed(slot);
        }
        if self.ghosts >= self.limits.ghosts {
            // The newest goes: that is as if there were no ghosts, and whoever makes many of them drives nobody else out.
            self.tally.ghosts_refused += 1;
            return self.on_closed(slot);
        }
        self.let_go(slot);
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        session.enter(Phase::Ghost, now.ms);
        self.ghosts += 1;
        self.tally.closed += 1;
        self.tally.ghosts_made += 1;
        self.watch(slot);
    }

    /// The device goes in good order: nothing of it is kept for its return.
    pub fn leave(&mut self, slot: u32) {
        self.end_all(slot);
    }

    fn may_stay(&self, slot: u32) -> bool {
        let Some(session) = self.conns.get(slot as usize) else { return false };
        session.phase == Phase::Open
            && self.may_resume()
            && self.slots_of(slot).any(|binding| self.bindings[binding as usize].is_live())
    }

    /// Whether connections are kept for their devices at present.
    pub(crate) fn may_resume(&self) -> bool {
        self.sealer.is_some() && self.limits.resume_ms.is_some() && self.drain.is_none()
    }

    pub(crate) fn is_ghost(&self, slot: u32) -> bool {
        self.ghosts > 0 && self.conns.get(slot as usize).is_some_and(|session| session.phase == Phase::Ghost)
    }

    /// The bindings of a connection, by slot.
    pub(crate) fn slots_of(&self, conn: u32) -> impl Iterator<Item = u32> {
        let first = self.conns.get(conn as usize).map_or(NONE, |session| session.first);
        let exists = |slot: u32| self.bindings.contains(slot as usize).then_some(slot);
        std::iter::successors(exists(first), move |slot| exists(self.bindings[*slot as usize].next))
    }

    /// The socket of a connection is another's from here on, or nobody's. What was under way to the device is not there
    /// any more; a bind that has not been answered is given up, since the device will ask again.
    pub(crate) fn let_go(&mut self, conn: u32) {
        let slots: Vec<u32> = self.slots_of(conn).collect();
        for slot in slots {
            let binding = &self.bindings[slot as usize];
            if binding.state == State::Pending {
                self.end(slot);
            } else if let Some(app) = self.apps.get_mut(&binding.app) {
                app.log.rest(slot);
            }
        }
    }

    /// Notes for a ghost's device that a binding is no more; `false` if the device can be told at once.
    pub(crate) fn note_farewell(&mut self, conn: u32, number: u32, reason: UnboundReason) -> bool {
        let is_ghost = self.is_ghost(conn);
        if is_ghost {
            self.farewells.note(conn, number, reason);
        }
        is_ghost
    }

    /// The device did not come back: the connection ends like any other.
    pub(crate) fn end_ghost(&mut self, slot: u32) {
        self.end_all(slot);
        self.forget_told(slot);
        self.conns.remove(slot as usize);
        self.farewells.take(slot);
        self.ghosts -= 1;
    }

    /// Ends them all at once.
    #[cfg(test)]
    pub(crate) fn end_ghosts(&mut self) {
        if self.ghosts == 0 {
            return;
        }
        let is_ghost = |(slot, session): (usize, &super::Session)| {
            (session.phase == Phase::Ghost).then_some(slot as u32)
        };
        let slots: Vec<u32> = self.conns.iter().filter_map(is_ghost).collect();
        for slot in slots {
            self.end_ghost(slot);
        }
    }
}
