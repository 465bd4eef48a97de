//! The room's rule for a stored message: the next number is written, an old one dropped, and everything else is
//! loaded from the saver after the last that was sent. So a hole, a restart of the store or a slow socket all end in
//! the same way, and a device never sees a number before its predecessor.

use std::collections::VecDeque;

use wire::{
    frame::{Push, Rebased},
    id::BindingId,
};

use super::{
    Sessions,
    binding::Binding,
    flags::Flags,
    outlet::{Class, Outlet},
    tell,
};
use crate::exchange::{BindingKey, Delivery, DeliveryItem, LoadAnswer, LoadAsk, StoredMessage, UpAnswer};

/// Bindings that ask again at one tick. With a look each that is half a millisecond.
const UNPARKED: usize = 4_096;

impl Sessions {
    /// A message for a user, or a nudge.
    pub fn deliver(&mut self, item: &DeliveryItem, out: &mut impl Outlet) -> Delivery {
        let meant = |binding: &Binding| item.fence.is_none_or(|fence| fence.0 == binding.fence);
        let found = self
            .users
            .find(item.app, &item.uid, &self.bindings)
            .filter(|(_, binding)| meant(binding))
            // Two only while an older one has not been kicked yet.
            .max_by_key(|(_, binding)| binding.fence)
            .map(|(slot, _)| slot);
        let Some(slot) = found else { return Delivery::NotHere };
        let is_away = self.bindings.get(slot as usize).is_some_and(|binding| self.is_ghost(binding.conn));
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return Delivery::NotHere };
        if is_away {
            if item.payload.is_some() && item.seq == 0 {
                self.tally.transients_away += 1;
                return Delivery::Away;
            }
            // It waits in the inbox until the device is back, or binds elsewhere. Who asks need not do anything about it.
            binding.flags.set(Flags::BEHIND);
            return Delivery::Sent;
        }
        let message = item.payload.as_ref().map(|payload| StoredMessage {
            seq: item.seq,
            id: item.id,
            payload: payload.clone(),
            accepted_ms: item.accepted_ms,
            collapse_key: item.collapse_key.clone(),
        });
        let class = if item.urgent { Class::Urgent } else { Class::Unicast };
        match message {
            Some(message) if item.seq == 0 => {
                let push = Push { skip: 0, ..push_frame(binding, BindingId(binding.number), &message) };
                if out.push(binding.conn, &push, class) {
                    self.tally.transients += 1;
                    Delivery::Sent
                } else {
                    self.tally.transients_shed += 1;
                    Delivery::Shed
                }
            }
            _ if item.epoch == binding.epoch && item.seq <= binding.sent => Delivery::Sent,
            Some(message) if item.epoch == binding.epoch && item.seq == binding.sent + 1 => {
                let push = push_frame(binding, BindingId(binding.number), &message);
                if write_push(binding, &push, class, out) {
                    self.tally.pushes += 1;
                } else {
                    binding.flags.set(Flags::BEHIND);
                    self.tally.behind += 1;
                }
                Delivery::Sent
            }
            _ => {
                self.request_load(slot, out);
                Delivery::Sent
            }
        }
    }

    /// Asks for what comes after the last that was sent, now or as soon as it makes sense.
    pub(crate) fn request_load(&mut self, slot: u32, out: &mut impl Outlet) {
        let is_away = self.bindings.get(slot as usize).is_some_and(|binding| self.is_ghost(binding.conn));
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if is_away {
            return binding.flags.set(Flags::BEHIND);
        }
        if binding.flags.has(Flags::LOADING) {
            binding.flags.set(Flags::AGAIN);
            return;
        }
        if binding.flags.has(Flags::PARKED) {
            return;
        }
        if out.is_busy(binding.conn) {
            // What is loaded counts as an attempt to deliver; it would only lie here.
            binding.flags.set(Flags::BEHIND);
            return;
        }
        let key = BindingKey { slot, generation: binding.generation };
        let ask = LoadAsk {
            binding: key,
            app: binding.app,
            uid: binding.uid.clone(),
            after: binding.sent_position(),
        };
        if self.asks.loads.push(ask).is_ok() {
            binding.flags.set(Flags::LOADING);
            self.tally.loads += 1;
        } else {
            self.park(key);
        }
    }

    fn park(&mut self, key: BindingKey) {
        let Some(binding) = self.binding(key) else { return };
        if !binding.flags.has(Flags::PARKED) {
            binding.flags.set(Flags::PARKED);
            self.parked.push_back(key);
            self.tally.loads_parked += 1;
        }
    }

    /// Some of those that found no place ask again, as long as there is place.
    pub(crate) fn unpark(&mut self, out: &mut impl Outlet) {
        for _ in 0..self.parked.len().min(UNPARKED) {
            if self.asks.loads.is_full() {
                return;
            }
            let Some(key) = self.parked.pop_front() else { break };
            let Some(binding) = self.binding(key) else { continue };
            binding.flags.take(Flags::PARKED);
            if binding.is_live() {
                self.request_load(key.slot, out);
            }
        }
        if self.parked.is_empty() && self.parked.capacity() > 1024 {
            self.parked = VecDeque::new();
        }
    }

    /// A load was answered.
    pub fn on_loaded(&mut self, answer: LoadAnswer, out: &mut impl Outlet) {
        let slot = answer.binding.slot;
        let Some(binding) = self.binding(answer.binding) else { return };
        binding.flags.take(Flags::LOADING);
        let again = binding.flags.take(Flags::AGAIN);
        let is_stale = binding.flags.take(Flags::STALE);
        if !binding.is_live() {
            return;
        }
        let conn = binding.conn;
        // A ghost's device may have less than was sent; what it has is known when it comes back.
        if is_stale || self.is_ghost(conn) {
            return self.request_load(slot, out);
        }
        let Some(binding) = self.binding(answer.binding) else { return };
        let Some(page) = answer.result else { return self.park(answer.binding) };
        let number = BindingId(binding.number);
        let start = page.start;
        if start.epoch.0 != binding.epoch {
            if start.epoch.0 < binding.epoch {
                // An answer of a store that is gone.
                return self.park(answer.binding);
            }
            binding.epoch = start.epoch.0;
            (binding.sent, binding.told, binding.acked) = (start.seq.0, start.seq.0, start.seq.0);
            binding.flags.set(Flags::REBASED);
            self.tally.rebased += 1;
            tell(out, conn, Rebased { binding: number.0, inbox: Some(start.into()) });
        } else {
            binding.sent = binding.sent.max(start.seq.0);
        }
        self.send_page(slot, number, page, out);
        if again {
            self.request_load(slot, out);
        }
    }

    /// What waited for a socket has been written: those who lag go on from their cursors.
    pub fn on_drained(&mut self, conn: u32, out: &mut impl Outlet) {
        let Some(session) = self.conns.get(conn as usize) else { return };
        let mut at = session.first;
        while let Some(binding) = self.bindings.get_mut(at as usize) {
            let (slot, app, next) = (at, binding.app, binding.next);
            if binding.is_live() {
                self.go_on(slot, app, out);
            }
            at = next;
        }
    }

    /// A binding's socket takes something again.
    pub(crate) fn go_on(&mut self, slot: u32, app: wire::id::AppId, out: &mut impl Outlet) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if binding.flags.take(Flags::BEHIND) {
            self.request_load(slot, out);
        }
        if let Some(state) = self.apps.get_mut(&app)
            && state.log.lagging.contains(slot)
            && !state.log.waiting.contains(slot)
        {
            state.log.ready.insert(slot);
            self.queue(app);
        }
    }

    /// Upstream data was answered.
    pub fn on_up_answer(&mut self, answer: UpAnswer, out: &mut impl Outlet) {
        self.up_bytes = self.up_bytes.saturating_sub(answer.bytes);
        let slot = answer.conn.slot;
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        if session.generation == answer.conn.generation {
            session.ups = session.ups.saturating_sub(1);
            super::frames::up_ack(slot, answer.reference, answer.code, answer.retry_after_ms, out);
        }
    }

    /// A message was taken back that this user may have. `true` if a device was told.
    pub fn recall(&mut self, app: wire::id::AppId, uid: &str, id: u64, out: &mut impl Outlet) -> bool {
        let found = self.users.find(app, uid, &self.bindings).max_by_key(|(_, binding)| binding.fence);
        let Some((_, binding)) = found else { return false };
        let recall = wire::frame::Recall { binding: binding.number, id, app: app.0 };
        let told = tell(out, binding.conn, recall);
        self.tally.recalls += u64::from(told);
        told
    }
}

pub(crate) fn push_frame(binding: &Binding, number: BindingId, message: &StoredMessage) -> Push {
    Push {
        binding: number.0,
        seq: message.seq,
        skip: message.seq.saturating_sub(binding.told + 1),
        id: message.id.0,
        payload: message.payload.clone(),
        accepted_ms: message.accepted_ms,
        collapse_key: message.collapse_key.as_ref().to_owned(),
    }
}

/// Writes a stored message and notes that it was sent.
pub(crate) fn write_push(binding: &mut Binding, push: &Push, class: Class, out: &mut impl Outlet) -> bool {
    let written = out.push(binding.conn, push, class);
    if written {
        (binding.sent, binding.told) = (push.seq, push.seq);
    }
    written
}
