//! What the time does to connections.

use wire::frame::CloseCode;

use super::{Sessions, connection::Phase, outlet::Outlet};
use crate::{admission::Reason, clock::Now, exchange::ConnKey};

impl Sessions {
    /// Looks at what has come up. Call it at every tick of the wheel.
    pub fn on_tick(&mut self, now: Now, out: &mut impl Outlet) {
        while let Some(due) = self.wheel.expire(now.ms) {
            for conn in due {
                self.look_at(conn, now, out);
            }
        }
        self.unpark(out);
        for app in std::mem::take(&mut self.stalled) {
            if let Some(state) = self.apps.get_mut(&app) {
                state.log.asked = false;
            }
            self.queue(app);
        }
    }

    fn look_at(&mut self, conn: ConnKey, now: Now, out: &mut impl Outlet) {
        let Some(session) = self.conns.get(conn.slot as usize) else { return };
        if session.generation != conn.generation || session.due != self.wheel.tick() {
            return;
        }
        let deadline = session.deadline_ms(&self.limits);
        let phase = session.phase;
        // A device that pings but never reads has a deadline ahead; its socket is looked at whenever its entry comes up.
        if phase != Phase::Closing && out.stalled_ms(conn.slot, now.ms) > self.limits.slow_ms {
            self.close(conn.slot, CloseCode::Slow, "the device does not read", now, out);
            return out.abort(conn.slot);
        }
        if deadline > now.ms {
            return self.watch(conn.slot);
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
