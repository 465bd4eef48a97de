//! How a connection ends, whoever ends it.

use smallvec::SmallVec;
use wire::{frame::Leave, id::BindingId};

use super::{
    Cause, Ending, Output, Session,
    binding::{Binding, Stage},
    link::{Link, Stage as LinkStage},
};
use crate::moment::Moment;

impl Session {
    /// The network connection broke, or could not be read: the session waits for the next one.
    pub fn lost(&mut self, cause: Cause, out: &mut Output) {
        if self.link.stage != LinkStage::Down {
            self.end(cause.into(), out);
        }
    }

    /// Ends everything in good order: acks what is done with, takes leave and ends the connection.
    pub fn close(&mut self, now: Moment, out: &mut Output) {
        if self.link.stage == LinkStage::Down {
            return;
        }
        self.take_leave(now, out);
        self.end(Cause::Requested.into(), out);
    }

    /// What ends the connection now, if anything does.
    pub(super) fn overdue(&mut self, now: Moment) -> Option<Ending> {
        if matches!(self.link.stage, LinkStage::Greeting(deadline) if deadline <= now) {
            return Some(Cause::NoAnswer("Connect").into());
        }
        if self.link.is_silent(self.config.pong_timeout, now) {
            return Some(Cause::Silent.into());
        }
        let unanswered = |binding: &Binding| matches!(binding.stage, Stage::Asked(by) if by <= now);
        if self.may_bind() && self.bindings.iter().any(unanswered) {
            return Some(Cause::NoAnswer("Bind").into());
        }
        if self.link.moving.as_ref().is_some_and(|moving| moving.at <= now) {
            let moving = self.link.moving.take()?;
            let addresses = moving.addresses;
            return Some(Ending { addresses, ..Cause::Moved(moving.reason).into() });
        }
        None
    }

    /// Says all that there is to say before it goes: the room need not keep anything for it.
    pub(super) fn take_leave(&mut self, now: Moment, out: &mut Output) {
        for binding in self.bindings.iter_mut().filter(|binding| binding.is_bound()) {
            binding.ack(&mut self.link, now, &mut out.bytes);
        }
        self.link.send(&Leave {}.into(), now, &mut out.bytes);
    }

    pub(super) fn end(&mut self, ending: Ending, out: &mut Output) {
        if !matches!(ending.cause, Cause::Lost(_) | Cause::Silent) {
            // The room has ended the bindings, or the two do not agree on where they stand.
            self.resume_token = None;
        }
        let holds = self.resume_token.is_some();
        self.link = Link::down();
        self.ups.disconnected();
        let mut gone = SmallVec::<[BindingId; 2]>::new();
        for binding in &mut self.bindings {
            if binding.disconnected(holds) {
                gone.push(binding.id);
            }
        }
        for id in gone {
            self.remove(id, out);
        }
        out.ended = Some(ending);
    }
}
