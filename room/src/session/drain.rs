//! Sending the devices away, at a pace that the other rooms can take.

use wire::frame::{CloseCode, Reconnect};

use super::{Sessions, connection::Phase, outlet::Outlet, tell};
use crate::{clock::Now, exchange::DrainOrder};

/// Devices that are told, or closed, in one turn. A write takes about 7 µs, so these are 4 ms.
const TOLD: u64 = 512;
/// Slots that are looked at in one turn for those whom something concerns: a tenth of a millisecond, and as many ghosts end in 4 ms.
const LOOKS: usize = 4_096;

/// A drain under way.
#[derive(Debug)]
pub(crate) struct Drain {
    order: DrainOrder,
    began_ms: u64,
    told: u64,
    /// The next slot to look at. No connection is opened any more, so one round meets all.
    next: usize,
    end: usize,
    /// The same for the ghosts.
    next_ghost: usize,
    /// The same once everyone is to be closed.
    closed: Option<usize>,
}

impl Sessions {
    /// Begins to send the devices away; no connection is opened from now on.
    pub fn start_drain(&mut self, order: DrainOrder, now: Now) {
        if self.drain.is_none() {
            self.begin_drain(order, now);
            // Nobody can resume here any more, and the other rooms are to hear of it now.
            self.end_some_ghosts();
        }
    }

    fn begin_drain(&mut self, order: DrainOrder, now: Now) {
        let end = self.conns.capacity();
        let (began_ms, told) = (now.ms, 0);
        self.drain = Some(Drain { order, began_ms, told, next: 0, end, next_ghost: 0, closed: None });
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Tells those whose turn has come. Call it every turn of the loop during a drain. `true`: more are due.
    pub fn drain_step(&mut self, now: Now, out: &mut impl Outlet) -> bool {
        let Some(mut drain) = self.drain.take() else { return false };
        // One at once, so that a room with one device does not wait a second for nothing.
        let elapsed = now.ms.saturating_sub(drain.began_ms);
        let due = 1 + elapsed * u64::from(drain.order.per_second) / 1_000;
        let until = due.min(drain.told + TOLD);
        let last = drain.end.min(drain.next + LOOKS);
        while drain.told < until && drain.next < last {
            if self.send_away(drain.next as u32, drain.order, now, out) {
                drain.told += 1;
            }
            drain.next += 1;
        }
        let more = drain.told < due && drain.next < drain.end;
        self.drain = Some(drain);
        more
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
        self.answer_connect(slot, out);
        tell(out, slot, Reconnect { addresses: Vec::new(), after_ms, reason: "drain".to_owned() });
        true
    }

    /// The drain's time is up: whoever is still here is closed, in parts; [`Sessions::end_some`] goes on with them.
    pub fn close_all(&mut self, now: Now, out: &mut impl Outlet) {
        if self.drain.is_none() {
            // Without a pace, because nobody is to be told any more.
            self.begin_drain(DrainOrder { per_second: 0, spread_ms: 0, linger_ms: 0 }, now);
        }
        if let Some(drain) = &mut self.drain {
            drain.closed.get_or_insert(0);
        }
        self.close_some(now, out);
    }

    /// Ends some of those whose end was decided for very many at once. Call it every turn. `true`: there are more.
    pub fn end_some(&mut self, now: Now, out: &mut impl Outlet) -> bool {
        let ghosts = self.drain.is_some() && self.end_some_ghosts();
        let closed = self.close_some(now, out);
        self.end_lost(out) || ghosts || closed
    }

    fn close_some(&mut self, now: Now, out: &mut impl Outlet) -> bool {
        let Some((next, end)) = self.drain.as_ref().and_then(|drain| Some((drain.closed?, drain.end))) else {
            return false;
        };
        let (mut told, mut slot) = (0, next);
        while slot < end.min(next + LOOKS) && told < TOLD {
            if self.conns.contains(slot) {
                self.close(slot as u32, CloseCode::GoingAway, "the room is going away", now, out);
                told += 1;
            }
            slot += 1;
        }
        if let Some(drain) = &mut self.drain {
            drain.closed = Some(slot);
        }
        slot < end
    }

    fn end_some_ghosts(&mut self) -> bool {
        let Some(next) = self.drain.as_ref().map(|drain| drain.next_ghost) else { return false };
        if self.ghosts == 0 {
            return false;
        }
        let last = self.conns.capacity().min(next + LOOKS);
        for slot in next..last {
            if self.is_ghost(slot as u32) {
                self.end_ghost(slot as u32);
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.next_ghost = last;
        }
        self.ghosts > 0 && last < self.conns.capacity()
    }
}
