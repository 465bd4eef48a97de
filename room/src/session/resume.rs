//! How a connection begins: afresh, or by taking up an earlier one where it broke off.
//!
//! A device that presents a good token goes on in the *seat* of that token: the slot, generation and bindings of the
//! connection that broke. Only the socket moves there. So neither the register nor the saver is asked, nor is a token of an app
//! checked again, except that the saver is for messages which were sent and have not come. The seat may still look alive, when
//! the device has noticed the break before the room: then the newer socket takes over.
//!
//! A token that is not good, for whatever reason, counts as none: the device is told nothing that a guess would learn from.

use wire::{
    frame::{CloseCode, Connect, Connected, ResumeBinding, Unbound, UnboundReason},
    id::{Epoch, Position, Seq},
    limits,
};

use super::{Sessions, connection::Phase, flags::Flags, outlet::Outlet, tell};
use crate::{
    clock::Now,
    exchange::{AckAsk, ConnKey},
    resume::Seat,
};

/// What a connection's reader does after a frame.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// It goes on.
    More,
    /// The connection is closing, and what follows need not be decoded.
    Stop,
    /// The socket, and what follows, belong to another seat: [`Sessions::move_away`], and then in the seat's thread
    /// [`Sessions::take_seat`].
    Move(Box<Moving>),
}

/// A socket on its way to another seat.
#[derive(Debug, PartialEq)]
pub struct Moving {
    /// Where it wants to go.
    pub seat: Seat,
    /// What it said.
    pub connect: Connect,
}

/// What became of a resume token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device goes on where its connection broke.
    Resumed,
    /// It does, and the room had not noticed the break.
    TakenOver,
    /// Not made by this life of this room for this device.
    Forged,
    /// Used before.
    Spent,
    /// Its connection has ended.
    Gone,
    /// The connection is being closed, or the room leaves.
    Leaving,
    /// The thread of the connection has too much to do.
    Busy,
    /// Resuming is switched off.
    Off,
}

impl Outcome {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Resumed,
        Self::TakenOver,
        Self::Forged,
        Self::Spent,
        Self::Gone,
        Self::Leaving,
        Self::Busy,
        Self::Off,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::TakenOver => "taken_over",
            Self::Forged => "forged",
            Self::Spent => "spent",
            Self::Gone => "gone",
            Self::Leaving => "leaving",
            Self::Busy => "busy",
            Self::Off => "off",
        }
    }
}

impl Sessions {
    pub(crate) fn on_connect(
        &mut self,
        slot: u32,
        connect: Connect,
        now: Now,
        out: &mut impl Outlet,
    ) -> Next {
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
            return Next::Stop;
        }
        if !connect.resume_token.is_empty() {
            match self.open_token(&connect) {
                Ok(seat) => return Next::Move(Box::new(Moving { seat, connect })),
                Err(outcome) => self.tally.resume(outcome),
            }
        }
        self.greet(slot, &connect, now, out);
        Next::More
    }

    /// The seat that a token names. One in this thread is good; one in another is to be judged there.
    fn open_token(&self, connect: &Connect) -> Result<Seat, Outcome> {
        let sealer = self.sealer.as_ref().ok_or(Outcome::Off)?;
        let seat = sealer.open(&connect.resume_token, &connect.device).ok_or(Outcome::Forged)?;
        if seat.thread == self.thread {
            self.judge(seat)?;
        }
        Ok(seat)
    }

    fn judge(&self, seat: Seat) -> Result<Outcome, Outcome> {
        if self.drain.is_some() {
            return Err(Outcome::Leaving);
        }
        if !self.may_resume() {
            return Err(Outcome::Off);
        }
        let session = self.conns.get(seat.conn.slot as usize).ok_or(Outcome::Gone)?;
        match session.phase {
            _ if session.generation != seat.conn.generation => Err(Outcome::Gone),
            _ if session.serial != seat.serial => Err(Outcome::Spent),
            Phase::Ghost => Ok(Outcome::Resumed),
            Phase::Open => Ok(Outcome::TakenOver),
            Phase::Handshake | Phase::Greeted | Phase::Leaving | Phase::Closing => Err(Outcome::Leaving),
        }
    }

    /// The socket of a connection that has said Connect is leaving for its seat; its slot is free.
    pub fn move_away(&mut self, slot: u32) {
        self.end_all(slot);
        self.conns.try_remove(slot as usize);
    }

    /// Makes ready the seat of a token, in whose place no other socket is from now on: the caller closes what is there, puts
    /// the newer there and calls [`Sessions::resume`]. `None`: the token is not good any more, which has been counted; the
    /// caller opens a connection and calls [`Sessions::greet`].
    pub fn take_seat(&mut self, seat: Seat, now: Now) -> Option<ConnKey> {
        let outcome = self.judge(seat);
        self.tally.resume(outcome.unwrap_or_else(|refused| refused));
        match outcome.ok()? {
            Outcome::TakenOver => {
                self.let_go(seat.conn.slot);
                self.tally.closed += 1;
            }
            _ => self.ghosts -= 1,
        }
        let session = self.conns.get_mut(seat.conn.slot as usize)?;
        session.serial = session.serial.wrapping_add(1);
        session.enter(Phase::Open, now.ms);
        Some(seat.conn)
    }

    /// A token could not be brought to its thread.
    pub fn seat_out_of_reach(&mut self) {
        self.tally.resume(Outcome::Busy);
    }

    /// Answers a Connect that begins a connection.
    pub fn greet(&mut self, slot: u32, connect: &Connect, now: Now, out: &mut impl Outlet) {
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        session.enter(Phase::Greeted, now.ms);
        self.answer(slot, connect, false, out);
    }

    /// Answers a Connect that goes on in a seat, and brings the bindings and the device together.
    pub fn resume(&mut self, slot: u32, connect: &Connect, now: Now, out: &mut impl Outlet) {
        self.answer(slot, connect, true, out);
        self.watch(slot);
        let gone = self.farewells.take(slot);
        // A connection has at most so many.
        let listed = &connect.resume[..connect.resume.len().min(u8::MAX.into())];
        let unknown = |slot: &u32| {
            let number = self.bindings[*slot as usize].number;
            !listed.iter().any(|has| has.binding == number)
        };
        // Of these the device never heard that they were bound, or it has given them up.
        let unknown: Vec<u32> = self.slots_of(slot).filter(unknown).collect();
        for binding in unknown {
            self.end(binding);
        }
        for has in listed {
            let reason = match self.find_live(slot, has.binding) {
                Some(found) if self.take_up(found, has, out) => continue,
                Some(found) => {
                    self.end(found);
                    UnboundReason::Lost
                }
                None => {
                    let told = gone.iter().find(|(number, _)| *number == has.binding);
                    told.map_or(UnboundReason::Lost, |(_, reason)| *reason)
                }
            };
            tell(out, slot, Unbound { binding: has.binding, reason: reason.into() });
        }
        if let Some(session) = self.conns.get_mut(slot as usize) {
            session.heard(now.ms);
        }
    }

    fn answer(&mut self, slot: u32, connect: &Connect, resumed: bool, out: &mut impl Outlet) {
        let gives = self.may_resume();
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        session.allowed_s = self.limits.heartbeat.negotiate(connect.network(), connect.heartbeat_s);
        let conn = ConnKey { slot, generation: session.generation };
        let seat = Seat { thread: self.thread, conn, serial: session.serial };
        // The last number is never given out: a count that comes round would make old tokens good again.
        let sealer = self.sealer.as_ref().filter(|_| gives && seat.serial < u8::MAX);
        let connected = Connected {
            conn: conn.id(self.thread).0,
            heartbeat_s: session.allowed_s.into(),
            resume_token: sealer.map(|sealer| sealer.seal(seat, &connect.device)).unwrap_or_default(),
            version: connect.version.min(limits::VERSION),
            resumed,
        };
        tell(out, slot, connected);
    }

    /// Goes on with one binding from what the device has of it. `false`: that cannot be gone on from.
    fn take_up(&mut self, slot: u32, has: &ResumeBinding, out: &mut impl Outlet) -> bool {
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
        self.ack_broadcasts(conn, slot, confirmed);
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
        for kept in app.log.tail.range_mut(first..).take_while(|kept| kept.entry.bseq <= binding.bsent) {
            if app.tags.matches(&kept.entry.audience, slot) {
                // It will be counted when it is sent again.
                kept.sent = kept.sent.saturating_sub(1);
            }
        }
        (binding.cursor, binding.bsent) = (received, received);
        app.log.forget(slot);
        app.log.lag(slot);
    }
}
