//! What the room's frames do to a session.

use std::time::Duration;

use smallvec::SmallVec;
use wire::{
    close::BindRetry,
    frame::{
        self, BindFailed, Bound, Close, Connected, ErrorCode, Push, Rebased, Recall, Reconnect, ServerBody,
        ServerFrame, Unbound, UnboundReason,
    },
    id::{AppId, BindingId, Bseq, ConnId, MessageId, Position, Seq},
};

use super::{
    Broadcast, Cause, Ending, Event, Message, Output, Session,
    binding::Stage,
    inbox::Verdict,
    link::{Moving, Stage as LinkStage},
};
use crate::moment::Moment;

/// A longer token is not kept: it is not worth its memory in each of a million devices.
const MAX_RESUME_TOKEN: usize = 64;

/// The connection cannot go on.
type Handled = Result<(), Ending>;

impl Session {
    /// A frame has come.
    pub fn on_frame(&mut self, frame: ServerFrame, now: Moment, out: &mut Output) {
        // What was under way when the connection ended means nothing any more.
        if self.link.stage == LinkStage::Down {
            return;
        }
        self.link.heard(now);
        // A frame of a later version.
        let Some(body) = frame.body else { return };
        if let Err(ending) = self.handle(body, now, out) {
            self.end(ending, out);
        }
    }

    fn handle(&mut self, body: ServerBody, now: Moment, out: &mut Output) -> Handled {
        match body {
            ServerBody::Connected(frame) => return self.on_connected(&frame, now, out),
            ServerBody::Close(frame) => return Err(closed(frame)),
            ServerBody::Reconnect(frame) => self.on_reconnect(frame, now),
            ServerBody::Error(frame) => self.on_error(&frame, now, out),
            _ if !self.link.is_live() => return Err(violation("a frame before Connected")),
            ServerBody::Push(frame) => return self.on_push(frame, now, out),
            ServerBody::Broadcast(frame) => self.on_broadcast(frame, now, out),
            ServerBody::Bound(frame) => return self.on_bound(&frame, now, out),
            ServerBody::BindFailed(frame) => self.on_bind_failed(frame, now, out),
            ServerBody::Unbound(frame) => self.on_unbound(frame, now, out),
            ServerBody::Rebased(frame) => self.on_rebased(frame, now, out),
            ServerBody::Recall(frame) => on_recall(frame, out),
            ServerBody::UpAck(ack) => {
                out.events.extend(self.ups.answered(&ack, &self.config, &mut self.dice, now));
            }
            ServerBody::Pong(_) => {}
        }
        Ok(())
    }

    fn on_connected(&mut self, frame: &Connected, now: Moment, out: &mut Output) -> Handled {
        if self.link.is_live() {
            return Err(violation("Connected twice"));
        }
        if frame.version > wire::limits::VERSION {
            return Err(violation("a version that was not offered"));
        }
        let resumed = frame.resumed;
        if resumed && self.resume_token.is_none() {
            return Err(violation("resumed what was not asked for"));
        }
        self.link.go_live(frame.heartbeat_s);
        let token = &frame.resume_token[..];
        self.resume_token = (1..=MAX_RESUME_TOKEN).contains(&token.len()).then(|| token.into());
        let (heartbeat, policy) = (self.link.heartbeat(), self.ack_policy());
        out.events.push(Event::Connected { conn: ConnId(frame.conn), heartbeat, resumed });
        for binding in &mut self.bindings {
            match &mut binding.stage {
                Stage::Held if resumed => {
                    binding.resumed();
                    binding.plan_ack(&policy, now);
                    out.events.push(Event::Bound {
                        binding: binding.id,
                        app: binding.app_id,
                        inbox: binding.inbox.received(),
                        broadcasts: binding.broadcasts.received(),
                    });
                }
                Stage::Held => binding.start_over(),
                Stage::Leaving { tell } => *tell &= resumed,
                _ => {}
            }
        }
        Ok(())
    }

    fn on_reconnect(&mut self, frame: Reconnect, now: Moment) {
        let at = now + Duration::from_millis(frame.after_ms.into());
        let moving = Moving { at, addresses: frame.addresses, reason: frame.reason };
        self.link.moving = Some(Box::new(moving));
    }

    fn on_error(&mut self, frame: &frame::Error, now: Moment, out: &mut Output) {
        let id = BindingId(frame.binding);
        // Left: the bind had failed when the Unbind came.
        let left = self.find(id).is_some_and(|binding| binding.stage == Stage::Left);
        if frame.code() == ErrorCode::NoSuchBinding && (left || self.is_bound(id)) {
            self.on_unbound(Unbound { binding: id.0, reason: UnboundReason::Lost.into() }, now, out);
        }
    }

    fn on_bound(&mut self, frame: &Bound, now: Moment, out: &mut Output) -> Handled {
        let (policy, forget) = (self.ack_policy(), self.config.forget_tokens);
        let Some(binding) = self.find(BindingId(frame.binding)) else { return Ok(()) };
        match binding.stage {
            Stage::Asked(_) => binding.bound(frame, forget),
            Stage::Leaving { .. } | Stage::Left => return Ok(()),
            _ => return Err(violation("Bound without a Bind")),
        }
        binding.plan_ack(&policy, now);
        out.events.push(Event::Bound {
            binding: binding.id,
            app: binding.app_id,
            inbox: frame.inbox.unwrap_or_default().into(),
            broadcasts: frame.broadcasts.unwrap_or_default().into(),
        });
        Ok(())
    }

    fn on_bind_failed(&mut self, frame: BindFailed, now: Moment, out: &mut Output) {
        let (backoff, most) = (self.config.backoff, self.config.max_token_attempts);
        let mut dice = self.dice.clone();
        let Some(binding) = self.find(BindingId(frame.binding)) else { return };
        if !matches!(binding.stage, Stage::Asked(_)) {
            return;
        }
        let delay = backoff.delay(binding.failures, &mut dice);
        binding.failures = binding.failures.saturating_add(1);
        binding.stage = match frame.code().retry() {
            BindRetry::Later => {
                Stage::Idle(now + delay.max(Duration::from_millis(frame.retry_after_ms.into())))
            }
            // The first refusal is how a device learns that its token has expired: nothing is wrong yet.
            BindRetry::NewToken if binding.failures == 1 => Stage::NeedsToken(now),
            BindRetry::NewToken if binding.failures < most => Stage::NeedsToken(now + delay),
            BindRetry::NewToken | BindRetry::Never => Stage::Over,
        };
        let (binding, gives_up) = (binding.id, binding.stage == Stage::Over);
        out.events.push(Event::BindFailed { binding, code: frame.code(), message: frame.message, gives_up });
        self.dice = dice;
    }

    fn on_unbound(&mut self, frame: Unbound, now: Moment, out: &mut Output) {
        let (id, reason) = (BindingId(frame.binding), frame.reason());
        let (backoff, mut dice) = (self.config.backoff, self.dice.clone());
        let Some(binding) = self.find(id) else { return };
        if matches!(binding.stage, Stage::Leaving { .. } | Stage::Left) {
            return self.remove(id, out);
        }
        if !matches!(binding.stage, Stage::Bound | Stage::Asked(_)) {
            return;
        }
        binding.ack_at = Moment::NEVER;
        binding.stage = Stage::Over;
        if reason.binds_again() {
            let at = now + backoff.delay(binding.failures, &mut dice);
            binding.stage = if binding.token.is_some() { Stage::Idle(at) } else { Stage::NeedsToken(at) };
        } else {
            self.ups.drop_binding(id, &mut out.events);
        }
        out.events.push(Event::Unbound { binding: id, reason });
        self.dice = dice;
    }

    fn on_push(&mut self, frame: Push, now: Moment, out: &mut Output) -> Handled {
        let (policy, auto) = (self.ack_policy(), self.confirms_itself());
        // One that crossed an Unbind on its way.
        let Some(binding) = self.find(BindingId(frame.binding)) else { return Ok(()) };
        let id = MessageId(frame.id);
        let mut position = None;
        match binding.stage {
            Stage::Bound => {}
            Stage::Asked(_) => return Err(violation("a message before Bound")),
            _ => return Ok(()),
        }
        if frame.seq != 0 {
            let verdict = binding.inbox.accept(Seq(frame.seq), frame.skip, id);
            if verdict == Verdict::Hole {
                return Err(violation("a hole in an inbox"));
            }
            if auto {
                binding.inbox.confirm_all();
            }
            binding.plan_ack(&policy, now);
            if verdict == Verdict::Repeat {
                out.repeats += 1;
                return Ok(());
            }
            position = Some(Position { epoch: binding.inbox.received().epoch, seq: Seq(frame.seq) });
        }
        let binding = binding.id;
        let (payload, accepted_ms) = (frame.payload, frame.accepted_ms);
        let collapse_key = (!frame.collapse_key.is_empty()).then(|| frame.collapse_key.into_boxed_str());
        let message = Message { binding, position, id, payload, accepted_ms, collapse_key };
        out.events.push(Event::Message(message));
        Ok(())
    }

    fn on_broadcast(&mut self, frame: frame::Broadcast, now: Moment, out: &mut Output) {
        let (policy, auto) = (self.ack_policy(), self.confirms_itself());
        let (app, id) = (AppId(frame.app), MessageId(frame.id));
        let mut moved = SmallVec::<[BindingId; 2]>::new();
        let mut cursor = None;
        for binding in &mut self.bindings {
            let is_meant = frame.binding == 0 || frame.binding == binding.id.0;
            if binding.app_id != app || !binding.is_bound() || !is_meant {
                continue;
            }
            let place = wire::id::Cursor { bseq: Bseq(frame.bseq), ..binding.broadcasts.received() };
            cursor = cursor.or(Some(place));
            if binding.broadcasts.accept(place.bseq) {
                moved.push(binding.id);
                if auto {
                    binding.broadcasts.confirm(place, now);
                    binding.plan_ack(&policy, now);
                }
            }
        }
        let Some(cursor) = cursor else { return };
        // With one binding its cursor tells; with several, one may be catching up while another is ahead.
        let new = match &mut self.recent_broadcasts {
            Some(recent) => recent.insert(id),
            None => !moved.is_empty(),
        };
        if !new {
            out.repeats += 1;
            // The app has it by another binding, and will not hear of it again to confirm it for this one.
            for binding in self.bindings.iter_mut().filter(|binding| moved.contains(&binding.id)) {
                binding
                    .broadcasts
                    .confirm(wire::id::Cursor { bseq: cursor.bseq, ..binding.broadcasts.received() }, now);
                binding.plan_ack(&policy, now);
            }
            return;
        }
        out.events.push(Event::Broadcast(Broadcast {
            app,
            bindings: moved,
            cursor,
            id,
            payload: frame.payload,
            accepted_ms: frame.accepted_ms,
        }));
    }

    fn on_rebased(&mut self, frame: Rebased, now: Moment, out: &mut Output) {
        let (id, policy) = (BindingId(frame.binding), self.ack_policy());
        if let Some(binding) = self.bindings.iter_mut().find(|binding| binding.id == id)
            && binding.is_bound()
        {
            // What is done with is acked by the numbers it had, while they are known.
            binding.ack(&mut self.link, now, &mut out.bytes);
            binding.inbox.continue_at(frame.inbox.unwrap_or_default().into());
            binding.plan_ack(&policy, now);
        }
    }
}

fn on_recall(frame: Recall, out: &mut Output) {
    let binding = (frame.binding != 0).then_some(BindingId(frame.binding));
    out.events.push(Event::Recalled { binding, app: AppId(frame.app), id: MessageId(frame.id) });
}

fn closed(frame: Close) -> Ending {
    let retry_after = Duration::from_millis(frame.retry_after_ms.into());
    let code = frame.code();
    Ending { retry_after, ..Cause::Closed { code, message: frame.message }.into() }
}

fn violation(what: &'static str) -> Ending {
    Cause::Violation(what).into()
}
