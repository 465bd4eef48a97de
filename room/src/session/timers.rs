//! What the time does to connections.

use wire::frame::CloseCode;

use super::{Sessions, connection::Phase, outlet::Outlet};
use crate::{admission::Reason, clock::Now, exchange::ConnKey};

/// What one turn spends on timers: a look takes a tenth of a microsecond, so all of it is less than a millisecond.
const LOOKS: usize = 4_096;
/// A connection that is closed costs as much as so many looks: its bindings end, and a word is written to it, which takes
/// about 7 µs. So a turn closes 256.
const CLOSED: usize = 16;

impl Sessions {
    /// Looks at what has come up, and tries again what found no place. Call it at every tick of the wheel; when many come up
    /// together, [`Sessions::work`] goes on with them.
    pub fn on_tick(&mut self, now: Now, out: &mut impl Outlet) {
        self.seen = now;
        self.answer_all_connects(out);
        self.look_at_due(now, out);
        self.unpark(out);
        self.keep_some(now);
        for app in std::mem::take(&mut self.stalled) {
            if let Some(state) = self.apps.get_mut(&app) {
                state.log.asked = false;
            }
            self.queue(app);
        }
    }

    /// Looks at some of those that have come up. `true`: there are more.
    pub(crate) fn look_at_due(&mut self, now: Now, out: &mut impl Outlet) -> bool {
        let mut budget = LOOKS;
        while budget > 0 {
            let Some(conn) = self.wheel.expire(now.ms) else { return false };
            let closes = self.look_at(conn, now, out);
            budget = budget.saturating_sub(if closes { CLOSED } else { 1 });
        }
        true
    }

    /// Looks at one. `true`: it ends.
    fn look_at(&mut self, conn: ConnKey, now: Now, out: &mut impl Outlet) -> bool {
        let Some(session) = self.conns.get(conn.slot as usize) else { return false };
        if session.generation != conn.generation || session.due != self.wheel.tick() {
            return false;
        }
        let deadline = session.deadline_ms(&self.limits);
        let phase = session.phase;
        // A device that pings but never reads has a deadline ahead; its socket is looked at whenever its entry comes up.
        if phase != Phase::Closing && out.stalled_ms(conn.slot, now.ms) > self.limits.slow_ms {
            self.close(conn.slot, CloseCode::Slow, "the device does not read", now, out);
            out.abort(conn.slot);
            return true;
        }
        if deadline > now.ms {
            self.watch(conn.slot);
            return false;
        }
        if phase == Phase::Greeted && session.bindings > 0 {
            // It has shown what it has, and it is the cluster that has not answered yet: to send it away would only bring it
            // back. The answer comes within the time of the calls that the bind needs.
            if let Some(session) = self.conns.get_mut(conn.slot as usize) {
                session.enter(phase, now.ms);
            }
            self.watch(conn.slot);
            return false;
        }
        match phase {
            Phase::Handshake => {
                self.refuse(conn.slot, Reason::HandshakeTimeout, now, out);
            }
            Phase::Greeted => {
                self.refuse(conn.slot, Reason::BindTimeout, now, out);
            }
            Phase::Open => {
                self.close(conn.slot, CloseCode::HeartbeatTimeout, "nothing was heard", now, out);
            }
            Phase::Leaving => self.close(conn.slot, CloseCode::GoingAway, "the room is going away", now, out),
            Phase::Closing => out.abort(conn.slot),
            Phase::Ghost => {
                self.tally.ghosts_expired += 1;
                self.end_ghost(conn.slot);
            }
        }
        true
    }

    /// Sees to it that a connection is looked at when its deadline has come. It may have entries in the wheel from before;
    /// one that comes up early enough will do, and those that come up later will be passed over.
    pub(crate) fn watch(&mut self, slot: u32) {
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        let deadline = session.deadline_ms(&self.limits);
        let conn = ConnKey { slot, generation: session.generation };
        if !self.wheel.comes_up_by(session.due, deadline) {
            session.due = self.wheel.schedule(conn, deadline);
        }
    }
}
