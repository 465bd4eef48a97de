//! What a connection may send, and how long it may take to begin.

use super::{Outlet, Sessions, connection::Phase};
use crate::{admission::Reason, clock::Now};

impl Sessions {
    /// So many bytes came from a connection's socket, of whatever transport. `false`: it is closing, and they need not be
    /// decoded.
    pub fn on_bytes(&mut self, slot: u32, count: usize, now: Now, out: &mut impl Outlet) -> bool {
        let Some(session) = self.conns.get_mut(slot as usize) else { return false };
        if session.phase == Phase::Closing {
            return false;
        }
        if session.spend_bytes(count, now.ms, &self.limits) {
            return true;
        }
        self.refuse(slot, Reason::ByteRate, now, out);
        false
    }

    /// Whether a connection has not come as far as Connect.
    pub fn is_greeting(&self, slot: u32) -> bool {
        self.conns.get(slot as usize).is_some_and(|session| session.phase == Phase::Handshake)
    }

    /// Counts somebody who was refused before there was a connection, or by its transport.
    pub fn count_refused(&mut self, reason: Reason) {
        self.tally.refused(reason);
    }

    /// Ends a connection that does more than it may, or does not begin in time.
    pub(super) fn refuse(&mut self, slot: u32, reason: Reason, now: Now, out: &mut impl Outlet) {
        self.tally.refused(reason);
        self.close(slot, reason.code(), reason.message(), now, out);
    }
}
