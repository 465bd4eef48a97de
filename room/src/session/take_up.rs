//! Bringing a binding and the device that comes back to it together: what the device has is acked, and what was sent and has
//! not come is sent again.

use wire::{
    frame::ResumeBinding,
    id::{Epoch, Position, Seq},
};

use super::{Sessions, flags::Flags, log::Log, outlet::Outlet, owed};
use crate::{clock::Now, exchange::AckAsk};

impl Sessions {
    /// Goes on with one binding from what the device has of it. `false`: that cannot be gone on from.
    pub(crate) fn take_up(
        &mut self,
        slot: u32,
        has: &ResumeBinding,
        now: Now,
        out: &mut impl Outlet,
    ) -> bool {
        let Some(binding) = self.bindings.get(slot as usize) else { return false };
        let (app, conn) = (binding.app, binding.conn);
        let log_epoch = self.apps.get(&app).map_or(0, |state| state.log.epoch);
        let (received, confirmed) = match has.log_epoch {
            0 => (binding.backed, 0),
            _ => (has.broadcast_received, has.broadcast_confirmed.min(has.broadcast_received)),
        };
        // It knows less than it has acked, or numbers of which the room has not heard.
        let is_behind = has.epoch == binding.epoch && has.received < binding.acked;
        let is_other = has.epoch > binding.epoch || ![0, log_epoch].contains(&has.log_epoch);
        if is_other || is_behind || received < binding.backed {
            return false;
        }
        self.take_up_inbox(slot, has);
        self.ack_broadcasts(conn, slot, confirmed, now.ms);
        self.take_up_broadcasts(slot, received);
        self.go_on(slot, app, out);
        true
    }

    fn take_up_inbox(&mut self, slot: u32, has: &ResumeBinding) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if has.epoch < binding.epoch {
            // It knows nothing of the numbers of this epoch. What it has of the older one only the saver can tell, whose
            // answer says Rebased as any other does.
            let received = Position { epoch: Epoch(has.epoch), seq: Seq(has.received) };
            let confirmed = Position { seq: Seq(has.confirmed.min(has.received)), ..received };
            let older = AckAsk { app: binding.app, uid: binding.uid.clone(), inbox: confirmed };
            binding.epoch = has.epoch;
            (binding.sent, binding.told, binding.acked) = (has.received, has.received, confirmed.seq.0);
            if has.confirmed > 0 && self.old_acks.len() < self.limits.asks {
                self.old_acks.push(older);
            }
            return self.load_again(slot);
        }
        let received = has.received.min(binding.told);
        let confirmed = has.confirmed.min(received);
        let is_short = received < binding.told;
        if is_short {
            (binding.sent, binding.told) = (received, received);
        }
        if confirmed > binding.acked {
            binding.acked = confirmed;
            self.mark_dirty(slot);
        }
        if is_short {
            self.load_again(slot);
        }
    }

    /// What comes after `sent` has to be loaded, and the answer to an earlier ask begins too late.
    fn load_again(&mut self, slot: u32) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        binding.flags.set(Flags::BEHIND);
        if binding.flags.has(Flags::LOADING) {
            binding.flags.set(Flags::STALE);
        }
    }

    fn take_up_broadcasts(&mut self, slot: u32, received: u64) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        let Some(app) = self.apps.get_mut(&binding.app) else { return };
        if received >= binding.bsent {
            return;
        }
        let first = app.log.position_after(received);
        let Log { tail, owing, .. } = &mut app.log;
        for kept in tail.entries.range_mut(first..).take_while(|kept| kept.bseq <= binding.bsent) {
            if owing.is_meant(&app.tags, kept, slot, binding) {
                // It will be counted when it is sent again.
                kept.sent = kept.sent.saturating_sub(1);
            }
        }
        owed::go_back(&app.tags, &mut app.log, slot, binding, received);
        (binding.cursor, binding.bsent) = (received, received);
        app.log.go_back(slot);
    }
}
