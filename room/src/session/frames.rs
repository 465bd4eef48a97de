//! What a device says.

use wire::{
    codec::pong,
    frame::{
        Ack, ClientBody, ClientFrame, CloseCode, Error, ErrorCode, Unbind, Unbound, UnboundReason, Up, UpAck,
        UpCode,
    },
    id::{Epoch, Position, Seq},
    limits,
};

use super::{
    Sessions,
    binding::NONE,
    connection::Phase,
    flags::Flags,
    outlet::{Class, Outlet},
    resume::Next,
    tell,
};
use crate::{
    admission::Reason,
    clock::Now,
    exchange::{AckAsk, ConnKey, UpAsk},
};

impl Sessions {
    /// A frame has come.
    pub fn on_frame(&mut self, slot: u32, frame: ClientFrame, now: Now, out: &mut impl Outlet) -> Next {
        let Some(session) = self.conns.get_mut(slot as usize) else { return Next::Stop };
        if matches!(session.phase, Phase::Closing | Phase::Ghost) {
            return Next::Stop;
        }
        self.tally.frames_in += 1;
        if !session.spend(now.ms, &self.limits) {
            self.refuse(slot, Reason::FrameRate, now, out);
            return Next::Stop;
        }
        session.heard(now.ms);
        let body = match (session.phase, frame.body) {
            (Phase::Handshake, Some(ClientBody::Connect(connect))) => {
                return self.on_connect(slot, connect, now, out);
            }
            (Phase::Handshake, _) => {
                self.close(slot, CloseCode::BadFrame, "the first frame must be Connect", now, out);
                return Next::Stop;
            }
            (_, Some(ClientBody::Connect(_))) => {
                self.close(slot, CloseCode::BadFrame, "Connect comes once", now, out);
                return Next::Stop;
            }
            (_, body) => body,
        };
        if !matches!(body, Some(ClientBody::Bind(_))) {
            self.answer_connect(slot, out);
        }
        match body {
            Some(ClientBody::Bind(bind)) => self.on_bind(slot, bind, out),
            Some(ClientBody::Unbind(unbind)) => self.on_unbind(slot, unbind, out),
            Some(ClientBody::Ack(ack)) => self.on_ack(slot, ack, now, out),
            Some(ClientBody::Up(up)) => self.on_up(slot, up, out),
            Some(ClientBody::Ping(_)) => {
                out.share(slot, &pong(), Class::Control);
            }
            Some(ClientBody::Leave(_)) => self.leave(slot),
            Some(ClientBody::Connect(_)) | None => {
                let message = "this version does not know the frame".to_owned();
                tell(out, slot, Error { code: ErrorCode::UnknownFrame.into(), message, binding: 0 });
            }
        }
        Next::More
    }

    fn on_unbind(&mut self, slot: u32, unbind: Unbind, out: &mut impl Outlet) {
        let Some(found) = self.find(slot, unbind.binding) else {
            return no_such_binding(slot, unbind.binding, out);
        };
        self.end(found);
        self.tally.unbound(UnboundReason::Requested);
        tell(out, slot, Unbound { binding: unbind.binding, reason: UnboundReason::Requested.into() });
    }

    fn refund(&mut self, slot: u32) {
        if let Some(session) = self.conns.get_mut(slot as usize) {
            session.refund();
        }
    }

    /// What it acks is never more than what was sent: a device cannot be trusted to count.
    fn on_ack(&mut self, slot: u32, ack: Ack, now: Now, out: &mut impl Outlet) {
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
            self.refund(slot);
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
            self.ack_broadcasts(slot, found, ack.bseq, now.ms.saturating_sub(ack.held_ms.into()));
        }
    }

    /// All up to `bseq` is done with; the device was done with that one at `done_ms`.
    pub(crate) fn ack_broadcasts(&mut self, conn: u32, slot: u32, bseq: u64, done_ms: u64) {
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        let acked = bseq.min(binding.bsent);
        if acked <= binding.backed {
            return;
        }
        if let Some(app) = self.apps.get_mut(&binding.app) {
            // Before the binding says that it has acked.
            app.ack(slot, binding, acked, done_ms);
        }
        binding.backed = acked;
        self.refund(conn);
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
        let bytes = up.payload.len();
        let fits = self.up_bytes + bytes <= self.limits.up_bytes;
        let ask = UpAsk {
            conn: ConnKey { slot, generation: session.generation },
            app: binding.app,
            uid: binding.uid.clone(),
            kind: up.kind,
            payload: up.payload,
            reference,
        };
        if fits && session.ups < self.limits.ups_in_flight && self.asks.ups.push(ask).is_ok() {
            session.ups += 1;
            self.up_bytes += bytes;
            self.tally.ups += 1;
        } else {
            self.tally.ups_shed += 1;
            let retry_after_ms = self.jitter.from(self.limits.retry_after_ms);
            up_ack(slot, reference, UpCode::Retry, retry_after_ms, out);
        }
    }

    /// The binding of a connection that has this number, whatever its state.
    pub(crate) fn find(&self, slot: u32, number: u32) -> Option<u32> {
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

    pub(crate) fn find_live(&self, slot: u32, number: u32) -> Option<u32> {
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
