//! The bindings that the app wants: added, taken away, given tokens.

use std::sync::Arc;

use smallvec::SmallVec;
use wire::{
    frame::{Unbind, UnboundReason},
    id::BindingId,
};

use super::{
    BindSpec, Event, Output, RECENT_BROADCASTS, Session,
    binding::{Binding, Stage},
    inbox::Recent,
    link::Stage as LinkStage,
};
use crate::moment::Moment;

impl Session {
    /// Adds a binding, now and on every connection to come.
    pub fn bind(&mut self, spec: BindSpec) -> BindingId {
        let id = BindingId(self.next_binding);
        self.next_binding = self.next_binding.wrapping_add(1);
        let binding = Binding::new(id, spec, self.config.recent_ids);
        if self.bindings.iter().any(|other| other.app == binding.app) {
            self.recent_broadcasts.get_or_insert_with(|| Box::new(Recent::new(RECENT_BROADCASTS)));
        }
        self.bindings.push(binding);
        id
    }

    /// Takes a binding away; [`Event::Unbound`] tells when.
    pub fn unbind(&mut self, id: BindingId) {
        let link = self.link.stage;
        if let Some(binding) = self.find(id)
            && binding.stage != Stage::Left
        {
            let tell = match link {
                LinkStage::Down => false,
                // The room has been asked to go on with it, or to bind it.
                LinkStage::Greeting(_) => matches!(binding.stage, Stage::Held | Stage::Asked(_)),
                LinkStage::Live => matches!(binding.stage, Stage::Bound | Stage::Asked(_)),
            };
            binding.stage = Stage::Leaving { tell };
        }
    }

    /// Binds again what was replaced, kicked or given up.
    pub fn rebind(&mut self, id: BindingId) {
        if let Some(binding) = self.find(id)
            && binding.stage == Stage::Over
        {
            binding.failures = 0;
            binding.stage = Stage::NeedsToken(Moment(0));
        }
    }

    /// The token that [`Event::TokenNeeded`] asked for.
    pub fn set_token(&mut self, id: BindingId, token: Arc<str>) {
        if let Some(binding) = self.find(id) {
            binding.token = Some(token);
            if matches!(binding.stage, Stage::AwaitsToken | Stage::NeedsToken(_)) {
                binding.stage = Stage::Idle(Moment(0));
            }
        }
    }

    /// No token could be had for the time being: the session asks again later.
    pub fn token_failed(&mut self, id: BindingId, now: Moment) {
        let (backoff, mut dice) = (self.config.backoff, self.dice.clone());
        if let Some(binding) = self.find(id)
            && binding.stage == Stage::AwaitsToken
        {
            binding.stage = Stage::NeedsToken(now + backoff.delay(binding.failures, &mut dice));
            binding.failures = binding.failures.saturating_add(1);
        }
        self.dice = dice;
    }

    /// Carries out what the app has asked to unbind.
    pub(super) fn leave_bindings(&mut self, now: Moment, out: &mut Output) {
        let mut gone = SmallVec::<[BindingId; 2]>::new();
        let hears = self.may_bind();
        for binding in &mut self.bindings {
            let Stage::Leaving { tell } = binding.stage else { continue };
            self.ups.drop_binding(binding.id, &mut out.events);
            match self.link.stage {
                LinkStage::Live | LinkStage::Greeting(_) if tell && hears => {
                    binding.ack(&mut self.link, now, &mut out.bytes);
                    self.link.send(&Unbind { binding: binding.id.0 }.into(), now, &mut out.bytes);
                    binding.stage = Stage::Left;
                }
                LinkStage::Greeting(_) if tell => {}
                _ => gone.push(binding.id),
            }
        }
        for id in gone {
            self.remove(id, out);
        }
    }

    pub(super) fn remove(&mut self, id: BindingId, out: &mut Output) {
        self.bindings.retain(|binding| binding.id != id);
        self.ups.drop_binding(id, &mut out.events);
        out.events.push(Event::Unbound { binding: id, reason: UnboundReason::Requested });
    }

    pub(super) fn find(&mut self, id: BindingId) -> Option<&mut Binding> {
        self.bindings.iter_mut().find(|binding| binding.id == id)
    }
}
