//! How bindings end, and what is handed over when they do.

use wire::frame::{Unbound, UnboundReason};

use super::{
    Sessions,
    binding::{NONE, State},
    flags::Flags,
    outlet::Outlet,
    tell,
};
use crate::exchange::{AckAsk, BindingKey, ConnKey, EndAsk, KickOrder, KickWhy};

impl Sessions {
    /// The register or the app ends a user's bindings. `true` if there was one.
    pub fn kick(&mut self, order: &KickOrder, out: &mut impl Outlet) -> bool {
        let meant: Vec<u32> = self
            .users
            .find(order.app, &order.uid, &self.bindings)
            .filter(|(_, binding)| binding.fence <= order.fence.0)
            .map(|(slot, _)| slot)
            .collect();
        for slot in &meant {
            self.kick_out(*slot, order.why, out);
        }
        !meant.is_empty()
    }

    /// Ends one live binding and tells the device why.
    pub(crate) fn kick_out(&mut self, slot: u32, why: KickWhy, out: &mut impl Outlet) {
        let Some(binding) = self.bindings.get(slot as usize) else { return };
        let reason = match why {
            KickWhy::Replaced => UnboundReason::Replaced,
            KickWhy::Kicked => UnboundReason::Kicked,
        };
        let (conn, number) = (binding.conn, binding.number);
        self.end(slot);
        self.tally.unbound(reason);
        if self.note_farewell(conn, number, reason) {
            return;
        }
        tell(out, conn, Unbound { binding: number, reason: reason.into() });
    }

    /// Ends all bindings of a connection.
    pub(crate) fn end_all(&mut self, conn: u32) {
        while let Some(first) =
            self.conns.get(conn as usize).map(|session| session.first).filter(|first| *first != NONE)
        {
            self.end(first);
        }
    }

    /// Ends a binding: nothing is sent to it any more, and its slot stays until the register has been told.
    pub(crate) fn end(&mut self, slot: u32) {
        self.unlink(slot);
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        match binding.state {
            State::Pending => {
                binding.state = State::Cancelled;
                self.given_up.note(BindingKey { slot, generation: binding.generation });
            }
            State::Live => {
                self.users.remove(slot, binding.app, &binding.uid);
                let is_lost = self.lost.forget(binding.app, slot);
                if let Some(app) = self.apps.get_mut(&binding.app) {
                    // Before the log forgets it.
                    binding.cursor = app.log.reached(slot, binding.cursor);
                    let owes = app.owes_before(slot);
                    let cursor = binding.resume_cursor(app.log.epoch, binding.cursor, owes);
                    let credits =
                        cursor.filter(|_| !is_lost).map(|cursor| app.credits(slot, binding, cursor.bseq.0));
                    if let Some(credits) = credits.filter(|credits| !credits.is_empty()) {
                        self.leaving.insert(slot, credits);
                    }
                    self.keeping.remove(&slot);
                    app.part(slot, binding);
                    app.leave(slot, binding);
                }
                if is_lost {
                    // Its place in the old numbering must not be kept as one in the new.
                    binding.bsaved = u64::MAX;
                }
                binding.tags = None;
                binding.state = State::Ending;
                self.ending.push_back(slot);
                self.tally.ended += 1;
            }
            State::Cancelled | State::Ending => {}
        }
    }

    /// Takes a binding out of its connection's list.
    fn unlink(&mut self, slot: u32) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if matches!(binding.state, State::Cancelled | State::Ending) {
            return;
        }
        let next = std::mem::replace(&mut binding.next, NONE);
        let Some(session) = self.conns.get_mut(binding.conn as usize) else { return };
        session.bindings = session.bindings.saturating_sub(1);
        if session.first == slot {
            session.first = next;
            return;
        }
        let mut at = session.first;
        while let Some(other) = self.bindings.get_mut(at as usize) {
            if other.next == slot {
                other.next = next;
                return;
            }
            at = other.next;
        }
    }

    /// Frees the slot of a binding of which nobody has to be told.
    pub(crate) fn free(&mut self, slot: u32) {
        self.unlink(slot);
        if let Some(binding) = self.bindings.try_remove(slot as usize) {
            self.given_up.forget(BindingKey { slot, generation: binding.generation });
        }
    }

    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if !binding.flags.has(Flags::DIRTY) {
            binding.flags.set(Flags::DIRTY);
            self.dirty.push(BindingKey { slot, generation: binding.generation });
        }
    }

    /// Takes acks to hand over, at most `max`: one for each binding, whatever number of frames it was.
    pub fn take_acks(&mut self, max: usize) -> Vec<AckAsk> {
        let mut batch = std::mem::take(&mut self.old_acks);
        let from = self.dirty.len().saturating_sub(max);
        let keys: Vec<BindingKey> = self.dirty.drain(from..).collect();
        for key in keys {
            let Some(binding) = self.binding(key) else { continue };
            // Its end may have taken the ack along.
            if binding.flags.take(Flags::DIRTY) {
                batch.push(AckAsk {
                    app: binding.app,
                    uid: binding.uid.clone(),
                    inbox: binding.acked_position(),
                });
            }
        }
        if self.dirty.is_empty() && self.dirty.capacity() > 1024 {
            self.dirty = Vec::new();
        }
        batch
    }

    /// Takes bindings that are over, at most `max`, and frees their slots.
    pub fn take_ends(&mut self, max: usize) -> Vec<EndAsk> {
        let count = max.min(self.ending.len());
        let slots: Vec<u32> = self.ending.drain(..count).collect();
        let mut batch = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(mut binding) = self.bindings.try_remove(slot as usize) else { continue };
            let log_epoch = self.apps.get(&binding.app).map(|app| app.log.epoch);
            let credits = self.leaving.remove(&slot).unwrap_or_default();
            let owes = !credits.is_empty();
            batch.push(EndAsk {
                app: binding.app,
                conn: ConnKey { slot: binding.conn, generation: binding.conn_generation }.id(self.thread),
                fence: binding.fence.into(),
                inbox: binding.flags.take(Flags::DIRTY).then(|| binding.acked_position()),
                cursor: log_epoch.and_then(|epoch| binding.resume_cursor(epoch, binding.cursor, owes)),
                credits,
                uid: binding.uid,
            });
        }
        if self.ending.is_empty() && self.ending.capacity() > 1024 {
            self.ending = Default::default();
        }
        batch
    }

    /// Whether there is something to take.
    pub fn has_ends(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Whether there is something to take.
    pub fn has_acks(&self) -> bool {
        !self.dirty.is_empty() || !self.old_acks.is_empty()
    }
}
