//! What comes back for a bind.

use audience::Device;
use wire::{
    frame::{BindCode, Bound},
    id::{AppId, BindingId, Cursor},
};

use super::{
    Sessions, apps::App, binding::State, connection::Phase, flags::Flags, log::Log, outlet::Outlet, tell,
};
use crate::{
    clock::Now,
    exchange::{BindAnswer, BindDone, BindingKey, LoadDone},
};

/// Numbers of a log that a binding goes over only to count what its device has: a tenth of a millisecond. Of more only the newest
/// are counted.
const GONE_OVER: u64 = 1_024;

impl Sessions {
    /// A bind was answered.
    pub fn on_bound(&mut self, answer: BindAnswer, now: Now, out: &mut impl Outlet) {
        let slot = answer.binding.slot;
        self.given_up.forget(answer.binding);
        let Some(binding) = self.binding(answer.binding) else { return };
        let (state, conn, number) = (binding.state, binding.conn, binding.number);
        match (answer.result, state) {
            (Ok(done), State::Pending) => self.complete(slot, done, (&answer.tags, answer.device), now, out),
            // The device is gone, but the register has a session now: it ends like any other.
            (Ok(done), _) => {
                binding.app = done.app;
                binding.fence = done.fence.0;
                binding.state = State::Ending;
                self.ending.push_back(slot);
            }
            (Err(refusal), State::Pending) => {
                self.free(slot);
                self.bind_failed(
                    conn,
                    number,
                    refusal.code,
                    &refusal.message,
                    Some(refusal.retry_after_ms),
                    out,
                );
            }
            (Err(_), _) => self.free(slot),
        }
    }

    /// Marks the live bindings of one app on a connection, if there are several.
    fn mark_shared(&mut self, conn: u32, app: AppId) {
        let of_app = |slot: &u32| {
            let binding = &self.bindings[*slot as usize];
            binding.is_live() && binding.app == app
        };
        if self.slots_of(conn).filter(of_app).nth(1).is_none() {
            return;
        }
        let slots: Vec<u32> = self.slots_of(conn).filter(of_app).collect();
        for slot in slots {
            self.bindings[slot as usize].flags.set(Flags::SHARES_APP);
        }
    }

    fn complete(
        &mut self,
        slot: u32,
        done: BindDone,
        (tags, device): (&[String], Device),
        now: Now,
        out: &mut impl Outlet,
    ) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        let (conn, number) = (binding.conn, binding.number);
        let start = done.inbox.start;
        let cursor = done.cursor.bseq.0;
        binding.app = done.app;
        binding.fence = done.fence.0;
        binding.epoch = start.epoch.0;
        (binding.sent, binding.told, binding.acked) = (start.seq.0, start.seq.0, start.seq.0);
        binding.bsaved = done.saved_cursor.bseq.0;
        // What the device has and could not be counted at the bind is gone over, and not sent again.
        let counted = done.owed.last().map_or(0, |credit| credit.bseq).max(binding.bsaved);
        let counted = if done.saved_cursor.epoch == done.cursor.epoch { counted } else { cursor };
        binding.cursor = counted.max(cursor.saturating_sub(GONE_OVER)).min(cursor);
        (binding.bsent, binding.backed) = (cursor, cursor);
        binding.place = audience::place(done.app.0, &binding.uid);
        // The device may have come to another network while the bind was under way.
        let device = Device { network: binding.network, offset: binding.offset, ..device };

        let log = || Log::new(done.log.epoch.0, done.log.bseq.0);
        let app = self.apps.entry(done.app).or_insert_with(|| App::new(log(), &self.zone));
        let Ok(entered) = app.enter(slot, tags, &device, self.limits.tags_per_app) else {
            self.free_after_bind(slot);
            let message = "the app has as many different tags as it may";
            return self.bind_failed(conn, number, BindCode::BadRequest, message, None, out);
        };
        binding.tags = entered;
        binding.state = State::Live;
        app.join(slot, binding, done.owed);
        let log_epoch = app.log.epoch.into();
        self.users.insert(slot, &self.bindings);
        self.mark_shared(conn, done.app);
        self.queue(done.app);
        if let Some(session) = self.conns.get_mut(conn as usize)
            && matches!(session.phase, Phase::Greeted | Phase::Open)
        {
            session.enter(Phase::Open, now.ms);
        }
        self.answer_connect(conn, out);
        self.tally.bound += 1;
        let broadcasts = Cursor { epoch: log_epoch, bseq: done.cursor.bseq };
        tell(
            out,
            conn,
            Bound {
                binding: number,
                app: done.app.0,
                inbox: Some(start.into()),
                broadcasts: Some(broadcasts.into()),
            },
        );
        if let Some(why) = done.kicked {
            return self.kick_out(slot, why, out);
        }
        self.send_page(slot, BindingId(number), done.inbox, out);
        if done.reload {
            self.request_load(slot, out);
        }
    }

    /// The register has the session already, so it has to be told that it is over.
    fn free_after_bind(&mut self, slot: u32) {
        // While pending it is linked; `end` unlinks it and leaves it cancelled.
        self.end(slot);
        if let Some(binding) = self.bindings.get_mut(slot as usize) {
            self.given_up.forget(BindingKey { slot, generation: binding.generation });
            binding.state = State::Ending;
            self.ending.push_back(slot);
        }
    }

    /// Sends a page that starts in the binding's epoch.
    pub(crate) fn send_page(&mut self, slot: u32, number: BindingId, page: LoadDone, out: &mut impl Outlet) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        for message in page.messages {
            if message.seq > binding.sent {
                let push = super::inbox::push_frame(binding, number, &message);
                if !super::inbox::write_push(binding, &push, super::Class::Page, out) {
                    return;
                }
                self.tally.pushes += 1;
            }
        }
        binding.sent = binding.sent.max(page.through);
        if page.more {
            self.request_load(slot, out);
        }
    }
}
