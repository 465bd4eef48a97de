//! What a device says.

use wire::{
    codec::pong,
    frame::{
        Ack, Bind, BindCode, BindFailed, ClientBody, ClientFrame, CloseCode, Connect, Connected, Error,
        ErrorCode, Unbind, Unbound, UnboundReason, Up, UpAck, UpCode,
    },
    id::{AppId, AppKey, Epoch, Position, Seq, Uid},
    limits,
};

use super::{
    Sessions,
    binding::{Binding, NONE, State},
    connection::Phase,
    flags::Flags,
    outlet::{Class, Outlet},
    tell,
};
use crate::{
    clock::Now,
    exchange::{AckAsk, BindAsk, BindingKey, ConnKey, UpAsk},
};

impl Sessions {
    /// A frame has come. `false`: the connection is closing, and what follows need not be decoded.
    pub fn on_frame(&mut self, slot: u32, frame: ClientFrame, now: Now, out: &mut impl Outlet) -> bool {
        let Some(session) = self.conns.get_mut(slot as usize) else { return false };
        if session.phase == Phase::Closing {
            return false;
        }
        self.tally.frames_in += 1;
        if !session.spend(now.ms, &self.limits) {
            self.close(slot, CloseCode::TooFast, "too many frames", now, out);
            return false;
        }
        session.heard(now.ms);
        let body = match (session.phase, frame.body) {
            (Phase::Handshake, Some(ClientBody::Connect(connect))) => {
                return self.on_connect(slot, &connect, now, out);
            }
            (Phase::Handshake, _) => {
                self.close(slot, CloseCode::BadFrame, "the first frame must be Connect", now, out);
                return false;
            }
            (_, Some(ClientBody::Connect(_))) => {
                self.close(slot, CloseCode::BadFrame, "Connect comes once", now, out);
                return false;
            }
            (_, body) => body,
        };
        match body {
            Some(ClientBody::Bind(bind)) => self.on_bind(slot, bind, out),
            Some(ClientBody::Unbind(unbind)) => self.on_unbind(slot, unbind, out),
            Some(ClientBody::Ack(ack)) => self.on_ack(slot, ack, out),
            Some(ClientBody::Up(up)) => self.on_up(slot, up, out),
            Some(ClientBody::Ping(_)) => {
                out.share(slot, &pong(), Class::Control);
            }
            Some(ClientBody::Connect(_)) | None => {
                let message = "this version does not know the frame".to_owned();
                tell(out, slot, Error { code: ErrorCode::UnknownFrame.into(), message, binding: 0 });
            }
        }
        true
    }

    fn on_connect(&mut self, slot: u32, connect: &Connect, now: Now, out: &mut impl Outlet) -> bool {
        let refusal = if connect.version == 0 {
            Some((CloseCode::BadVersion, "version 0 is none"))
        } else if connect.device.is_empty() || connect.device.len() > limits::MAX_DEVICE_BYTES {
            Some((CloseCode::BadFrame, "device must have 1 to 128 bytes"))
        } else if connect.sdk.len() > limits::MAX_SDK_BYTES {
            Some((CloseCode::BadFrame, "sdk must have at most 64 bytes"))
        } else {
            None
        };
        if let Some((code, message)) = refusal {
            self.close(slot, code, message, now, out);
            return false;
        }
        let Some(session) = self.conns.get_mut(slot as usize) else { return false };
        session.heartbeat_s = self.limits.heartbeat.negotiate(connect.network(), connect.heartbeat_s);
        session.enter(Phase::Greeted, now.ms);
        let (generation, heartbeat_s) = (session.generation, session.heartbeat_s.into());
        let connected = Connected {
            conn: ConnKey { slot, generation }.id(self.thread).0,
            heartbeat_s,
            resume_token: bytes::Bytes::new(),
            version: connect.version.min(limits::VERSION),
        };
        tell(out, slot, connected)
    }

    fn on_bind(&mut self, slot: u32, bind: Bind, out: &mut impl Outlet) {
        let number = bind.binding;
        let failure = match self.admit(slot, &bind) {
            Err(failure) => failure,
            Ok((app, uid)) => match self.start_bind(slot, bind, app, uid) {
                Ok(()) => return,
                Err(()) => (BindCode::Busy, "the room is busy"),
            },
        };
        self.bind_failed(slot, number, failure.0, failure.1, None, out);
    }

    /// Judges a bind by what it says.
    fn admit(&self, slot: u32, bind: &Bind) -> Result<(AppKey, Uid), (BindCode, &'static str)> {
        let bad = |what| (BindCode::BadRequest, what);
        if self.find(slot, bind.binding).is_some() {
            return Err((BindCode::Duplicate, "the binding number is in use"));
        }
        let bindings = self.conns.get(slot as usize).map_or(0, |session| session.bindings);
        if bindings >= self.limits.bindings_per_connection {
            return Err((BindCode::TooMany, "the connection has as many bindings as it may"));
        }
        if self.bindings.len() >= self.limits.bindings {
            return Err((BindCode::Busy, "the room has as many bindings as it may"));
        }
        if bind.token.len() > limits::MAX_TOKEN_BYTES {
            return Err(bad("the token is too long"));
        }
        let length = |tag: &String| (1..=limits::MAX_TAG_BYTES).contains(&tag.len());
        if bind.tags.len() > limits::MAX_TAGS || !bind.tags.iter().all(length) {
            return Err(bad("at most 32 tags of 1 to 64 bytes"));
        }
        let app = AppKey::new(&bind.app).map_err(|_| bad("app must have 1 to 64 of a-z 0-9 - _ ."))?;
        let uid = Uid::new(&bind.uid).map_err(|_| bad("uid must have 1 to 128 bytes"))?;
        Ok((app, uid))
    }

    fn start_bind(&mut self, slot: u32, bind: Bind, app: AppKey, uid: Uid) -> Result<(), ()> {
        let generation = self.next_generation();
        let Some(session) = self.conns.get_mut(slot as usize) else { return Err(()) };
        let entry = self.bindings.vacant_entry();
        let key = BindingKey { slot: entry.key() as u32, generation };
        let ask = BindAsk {
            binding: key,
            conn: ConnKey { slot, generation: session.generation }.id(self.thread),
            app,
            uid: uid.clone(),
            token: bind.token,
            tags: bind.tags,
            inbox: bind.inbox.map(Into::into),
            broadcasts: bind.broadcasts.map(Into::into),
        };
        self.asks.binds.push(ask).map_err(|_| ())?;
        entry.insert(Binding {
            uid,
            fence: 0,
            epoch: 0,
            sent: 0,
            told: 0,
            acked: 0,
            cursor: 0,
            bsent: 0,
            backed: 0,
            bsaved: 0,
            tags: None,
            generation,
            app: AppId(0),
            conn: slot,
            conn_generation: session.generation,
            number: bind.binding,
            next: session.first,
            state: State::Pending,
            flags: Flags::default(),
        });
        session.first = key.slot;
        session.bindings += 1;
        Ok(())
    }

    pub(crate) fn bind_failed(
        &mut self,
        slot: u32,
        binding: u32,
        code: BindCode,
        message: &str,
        retry_after_ms: Option<u32>,
        out: &mut impl Outlet,
    ) {
        self.tally.bind_failed(code);
        let retry_after_ms = match (code, retry_after_ms) {
            (BindCode::Busy, told) => {
                let least = told.filter(|told| *told > 0).unwrap_or(self.limits.retry_after_ms);
                self.jitter.from(least)
            }
            (_, told) => told.unwrap_or(0),
        };
        tell(
            out,
            slot,
            BindFailed { binding, code: code.into(), message: message.to_owned(), retry_after_ms },
        );
    }

    fn on_unbind(&mut self, slot: u32, unbind: Unbind, out: &mut impl Outlet) {
        let Some(found) = self.find(slot, unbind.binding) else {
            return no_such_binding(slot, unbind.binding, out);
        };
        self.end(found);
        self.tally.unbound(UnboundReason::Requested);
        tell(out, slot, Unbound { binding: unbind.binding, reason: UnboundReason::Requested.into() });
    }

    /// What it acks is never more than what was sent: a device cannot be trusted to count.
    fn on_ack(&mut self, slot: u32, ack: Ack, out: &mut impl Outlet) {
        let Some(found) = self.find_live(slot, ack.binding) else {
            return no_such_binding(slot, ack.binding, out);
        };
        self.tally.acks += 1;
        let Some(binding) = self.bindings.get_mut(found as usize) else { return };
        let understood = match ack.epoch {
            0 => !binding.flags.has(Flags::REBASED),
            epoch => epoch == binding.epoch,
        };
        let seq = ack.seq.min(binding.told);
        if understood && seq > binding.acked {
            binding.acked = seq;
            self.mark_dirty(found);
        } else if ack.epoch != 0 && ack.epoch < binding.epoch && ack.seq > 0 {
            // It crossed a Rebased. The saver knows which messages were born in that epoch.
            let ask = AckAsk {
                app: binding.app,
                uid: binding.uid.clone(),
                inbox: Position { epoch: Epoch(ack.epoch), seq: Seq(ack.seq) },
            };
            // Rare, and losing it only sends again what the device has.
            if self.old_acks.len() < self.limits.asks {
                self.old_acks.push(ask);
            }
        }
        if ack.bseq > 0 {
            self.ack_broadcasts(found, ack.bseq);
        }
    }

    fn ack_broadcasts(&mut self, slot: u32, bseq: u64) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        let (before, now) = (binding.backed, bseq.min(binding.bsent));
        if now <= before {
            return;
        }
        binding.backed = now;
        let Some(app) = self.apps.get_mut(&binding.app) else { return };
        let first = app.log.position_after(before);
        for kept in app.log.tail.range_mut(first..).take_while(|kept| kept.entry.bseq <= now) {
            if app.tags.matches(&kept.entry.audience, slot) {
                kept.acked += 1;
            }
        }
    }

    fn on_up(&mut self, slot: u32, up: Up, out: &mut impl Outlet) {
        let reference = up.r#ref;
        let valid = (1..=limits::MAX_KIND_BYTES).contains(&up.kind.len());
        let Some(found) = self.find_live(slot, up.binding).filter(|_| valid) else {
            return up_ack(slot, reference, UpCode::Rejected, 0, out);
        };
        let (Some(session), Some(binding)) =
            (self.conns.get_mut(slot as usize), self.bindings.get(found as usize))
        else {
            return;
        };
        let ask = UpAsk {
            conn: ConnKey { slot, generation: session.generation },
            app: binding.app,
            uid: binding.uid.clone(),
            kind: up.kind,
            payload: up.payload,
            reference,
        };
        if session.ups < self.limits.ups_in_flight && self.asks.ups.push(ask).is_ok() {
            session.ups += 1;
            self.tally.ups += 1;
        } else {
            self.tally.ups_shed += 1;
            let retry_after_ms = self.jitter.from(self.limits.retry_after_ms);
            up_ack(slot, reference, UpCode::Retry, retry_after_ms, out);
        }
    }

    /// The binding of a connection that has this number, whatever its state.
    fn find(&self, slot: u32, number: u32) -> Option<u32> {
        let mut at = self.conns.get(slot as usize)?.first;
        while at != NONE {
            let binding = self.bindings.get(at as usize)?;
            if binding.number == number {
                return Some(at);
            }
            at = binding.next;
        }
        None
    }

    fn find_live(&self, slot: u32, number: u32) -> Option<u32> {
        self.find(slot, number).filter(|found| self.bindings[*found as usize].is_live())
    }
}

pub(crate) fn up_ack(slot: u32, reference: u64, code: UpCode, retry_after_ms: u32, out: &mut impl Outlet) {
    tell(out, slot, UpAck { r#ref: reference, code: code.into(), retry_after_ms });
}

fn no_such_binding(slot: u32, binding: u32, out: &mut impl Outlet) {
    let message = "no such binding".to_owned();
    tell(out, slot, Error { code: ErrorCode::NoSuchBinding.into(), message, binding });
}
