//! How a connection begins: afresh, or by taking up an earlier one where it broke off.
//!
//! A device that presents a good token goes on in the *seat* of that token: the slot, generation and bindings of the
//! connection that broke. Only the socket moves there. So neither the register nor the saver is asked, nor is a token of an app
//! checked again, except that the saver is for messages which were sent and have not come. The seat may still look alive, when
//! the device has noticed the break before the room: then the newer socket takes over.
//!
//! A token that is not good, for whatever reason, counts as none: the device is told nothing that a guess would learn from.

use wire::{
    frame::{CloseCode, Connect, Connected, Unbound, UnboundReason},
    limits,
};

use super::{Sessions, connection::Phase, outlet::Outlet, tell};
use crate::{clock::Now, exchange::ConnKey, resume::Seat};

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
        self.forget_told(slot);
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
        self.note_told(slot, connect);
        self.answer(slot, connect, false, out);
    }

    /// Answers a Connect that goes on in a seat, and brings the bindings and the device together.
    pub fn resume(&mut self, slot: u32, connect: &Connect, now: Now, out: &mut impl Outlet) {
        self.answer(slot, connect, true, out);
        self.move_device(slot, connect);
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
                Some(found) if self.take_up(found, has, now, out) => continue,
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
        self.say_connected(slot, connected, out);
    }
}
