//! Sending the devices away, at a pace that the other rooms can take.

use wire::frame::{CloseCode, Reconnect};

use super::{Sessions, connection::Phase, outlet::Outlet, tell};
use crate::{clock::Now, exchange::DrainOrder};

/// A drain under way.
#[derive(Debug)]
pub(crate) struct Drain {
    order: DrainOrder,
    began_ms: u64,
    told: u64,
    /// The next slot to look at. No connection is opened any more, so one round meets all.
    next: usize,
    end: usize,
}

impl Sessions {
    /// Begins to send the devices away; no connection is opened from now on.
    pub fn start_drain(&mut self, order: DrainOrder, now: Now) {
        if self.drain.is_none() {
            // Nobody can resume here any more, and the other rooms are to hear of it now.
            self.end_ghosts();
            let end = self.conns.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
            self.drain = Some(Drain { order, began_ms: now.ms, told: 0, next: 0, end });
        }
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Tells those whose turn has come. Call it every turn of the loop during a drain.
    pub fn drain_step(&mut self, now: Now, out: &mut impl Outlet) {
        let Some(mut drain) = self.drain.take() else { return };
        // One at once, so that a room with one device does not wait a second for nothing.
        let elapsed = now.ms.saturating_sub(drain.began_ms);
        let due = 1 + elapsed * u64::from(drain.order.per_second) / 1_000;
        while drain.told < due && drain.next < drain.end {
            if self.send_away(drain.next as u32, drain.order, now, out) {
                drain.told += 1;
            }
            drain.next += 1;
        }
        self.drain = Some(drain);
    }

    fn send_away(&mut self, slot: u32, order: DrainOrder, now: Now, out: &mut impl Outlet) -> bool {
        let Some(session) = self.conns.get_mut(slot as usize) else { return false };
        match session.phase {
            // It has not said what it would have to know to be sent away.
            Phase::Handshake => {
                self.close(slot, CloseCode::GoingAway, "the room is going away", now, out);
                return true;
            }
            Phase::Greeted | Phase::Open => {}
            Phase::Leaving | Phase::Closing | Phase::Ghost => return false,
        }
        let after_ms = self.jitter.up_to(order.spread_ms);
        let leave_ms = after_ms.saturating_add(order.linger_ms);
        session.allowed_s = u16::try_from(leave_ms.div_ceil(1_000)).unwrap_or(u16::MAX);
        session.enter(Phase::Leaving, now.ms);
        self.watch(slot);
        tell(out, slot, Reconnect { addresses: Vec::new(), after_ms, reason: "drain".to_owned() });
        true
    }

    /// The drain's time is up: whoever is still here is closed.
    pub fn close_all(&mut self, now: Now, out: &mut impl Outlet) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.close(slot, CloseCode::GoingAway, "the room is going away", now, out);
        }
    }
}
