//! Signs of life that are no frames.

use wire::frame::CloseCode;

use super::{Sessions, connection::Phase, outlet::Outlet};
use crate::clock::Now;

impl Sessions {
    /// The transport's own ping or pong has come. It counts as a frame does, for the heartbeat and for the rate. `false`: the
    /// connection is closing.
    pub fn on_life(&mut self, slot: u32, now: Now, out: &mut impl Outlet) -> bool {
        let Some(session) = self.conns.get_mut(slot as usize) else { return false };
        if session.phase == Phase::Closing {
            return false;
        }
        if !session.spend(now.ms, &self.limits) {
            self.close(slot, CloseCode::TooFast, "too many frames", now, out);
            return false;
        }
        session.heard(now.ms);
        true
    }
}
