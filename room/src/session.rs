//! All sessions of one thread, as one state machine: frames, answers, orders and the time go in; frames for the
//! [`Outlet`] and asks for the cluster come out. No socket, no clock, no runtime, so all of it is tested in virtual time.
//!
//! What it must never do: wait, allocate for a connection at rest, or keep anything without a bound.

mod apps;
mod bind;
mod binding;
mod bound;
mod census;
mod connection;
mod drain;
mod ending;
mod fanout;
mod flags;
mod frames;
mod ghosts;
mod greeting;
mod inbox;
mod jitter;
mod keep;
mod life;
mod limits;
mod log;
mod lost;
mod opening;
mod outlet;
mod owed;
mod pace;
mod progress;
mod renew;
mod resume;
mod serve;
mod speed;
mod tail;
mod take_up;
mod tally;
mod timers;
mod told;
mod users;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;
use slab::Slab;
use wire::{
    frame::{Close, CloseCode, ServerBody, ServerFrame},
    id::AppId,
};

pub use census::Census;
pub use limits::{Heartbeat, Limits, Pace};
pub use outlet::{Class, Outlet};
pub use resume::{Moving, Next, Outcome};
pub use tally::Tally;

use self::{
    apps::Apps,
    binding::Binding,
    connection::{Phase, Session},
    drain::Drain,
    fanout::RecallRound,
    ghosts::Farewells,
    greeting::Greetings,
    jitter::Jitter,
    lost::Lost,
    told::Hellos,
    users::Users,
};
use crate::{
    clock::Now,
    exchange::{AckAsk, Asks, BindingKey, ConnKey, Credit, GivenUp},
    resume::Sealer,
    wheel::Wheel,
};

/// The sessions of one thread.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    thread: u8,
    conns: Slab<Session>,
    bindings: Slab<Binding>,
    users: Users,
    apps: Apps,
    wheel: Wheel,
    /// What waits to be handed to the tokio side.
    pub asks: Asks,
    /// Bytes of upstream payloads that have been asked for and not answered.
    up_bytes: usize,
    /// Bindings whose load found no place or no answer.
    parked: VecDeque<BindingKey>,
    /// Bindings with an ack to hand over.
    dirty: Vec<BindingKey>,
    /// Binds whose devices have gone before they were answered.
    given_up: GivenUp,
    /// Acks in a numbering that has passed.
    old_acks: Vec<AckAsk>,
    /// Bindings that are over, until the register has been told.
    ending: VecDeque<u32>,
    /// Apps with broadcasts to send.
    work: VecDeque<AppId>,
    /// Apps whose page found no place.
    stalled: Vec<AppId>,
    recalls: VecDeque<RecallRound>,
    /// Bindings whose broadcasts have been numbered anew.
    lost: Lost,
    /// What is to be counted for bindings that are over.
    leaving: HashMap<u32, Vec<Credit>, RandomState>,
    /// Bindings whose broadcast cursor is being kept; the app whose bindings are looked at next, and the slot.
    keeping: HashSet<u32, RandomState>,
    keep_next: (AppId, u32),
    /// What devices said that have no binding yet.
    hellos: Hellos,
    zone: Arc<str>,
    /// When something was last done.
    seen: Now,
    drain: Option<Drain>,
    /// Makes and opens resume tokens; nothing = no connection is kept after its socket broke.
    sealer: Option<Sealer>,
    /// Connections that are kept so.
    ghosts: usize,
    farewells: Farewells,
    /// Answers to Connect that have not been written.
    greetings: Greetings,
    generation: u32,
    jitter: Jitter,
    tally: Tally,
}

impl Sessions {
    /// An empty thread. `seed` only spreads waits.
    pub fn new(limits: Limits, thread: u8, seed: u64, now: Now) -> Self {
        Self {
            thread,
            conns: Slab::new(),
            bindings: Slab::new(),
            users: Users::new(),
            apps: Apps::default(),
            wheel: Wheel::new(now.ms),
            asks: Asks::new(limits.asks),
            up_bytes: 0,
            parked: VecDeque::new(),
            dirty: Vec::new(),
            given_up: GivenUp::default(),
            old_acks: Vec::new(),
            ending: VecDeque::new(),
            work: VecDeque::new(),
            stalled: Vec::new(),
            recalls: VecDeque::new(),
            lost: Lost::default(),
            leaving: HashMap::default(),
            keeping: HashSet::default(),
            keep_next: (AppId(0), 0),
            hellos: Hellos::default(),
            zone: "".into(),
            seen: now,
            drain: None,
            sealer: None,
            ghosts: 0,
            farewells: Farewells::default(),
            greetings: Greetings::default(),
            generation: 0,
            jitter: Jitter::new(seed),
            tally: Tally::default(),
            limits,
        }
    }

    /// Lets devices resume connections that broke, with tokens of this key.
    #[must_use]
    pub fn with_resume(self, sealer: Sealer) -> Self {
        Self { sealer: Some(sealer), ..self }
    }

    /// The zone of the room, for broadcasts that are meant for some.
    #[must_use]
    pub fn in_zone(self, zone: &str) -> Self {
        Self { zone: zone.into(), ..self }
    }

    /// The binds whose devices have gone before they were answered, for whoever makes them.
    pub fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    /// Takes other bounds for what comes from now on; those of memory stay as they are.
    pub fn set_limits(&mut self, limits: &Limits) {
        let Limits { connections, ghosts, bindings, asks, tail_bytes, up_bytes, .. } = self.limits;
        self.limits = Limits { connections, ghosts, bindings, asks, tail_bytes, up_bytes, ..limits.clone() };
    }

    /// A connection was accepted. `None`: there are as many as there may be; what to tell it is in
    /// [`Sessions::busy`].
    pub fn open(&mut self, now: Now) -> Option<ConnKey> {
        if self.connections() >= self.limits.connections || self.drain.is_some() {
            return None;
        }
        let generation = self.next_generation();
        let entry = self.conns.vacant_entry();
        let conn = ConnKey { slot: entry.key() as u32, generation };
        let session = entry.insert(Session::new(generation, now.ms, &self.limits));
        session.due = self.wheel.schedule(conn, session.deadline_ms(&self.limits));
        self.tally.opened += 1;
        Some(conn)
    }

    /// The socket is gone in good order, or will not be missed: nothing of the connection is kept.
    pub fn on_closed(&mut self, slot: u32) {
        let Some(session) = self.conns.get(slot as usize) else { return };
        if session.phase == Phase::Ghost {
            return self.end_ghost(slot);
        }
        self.end_all(slot);
        self.forget_told(slot);
        self.conns.remove(slot as usize);
        self.tally.closed += 1;
    }

    /// What a connection over the bound is told before it is closed.
    pub fn busy(&mut self) -> Close {
        let retry_after_ms = self.jitter.from(self.limits.retry_after_ms);
        self.tally.close(CloseCode::Busy);
        Close { code: CloseCode::Busy.into(), retry_after_ms, message: "the room is full".to_owned() }
    }

    /// Ends a connection with a word: its bindings are over at once, the socket when the word has been written.
    pub fn close(&mut self, slot: u32, code: CloseCode, message: &str, now: Now, out: &mut impl Outlet) {
        let Some(session) = self.conns.get_mut(slot as usize) else { return };
        if session.phase == Phase::Closing {
            return;
        }
        if session.phase == Phase::Ghost {
            return self.end_ghost(slot);
        }
        session.enter(Phase::Closing, now.ms);
        self.forget_greeting(slot);
        self.watch(slot);
        self.end_all(slot);
        let retry_after_ms = match code {
            CloseCode::Busy | CloseCode::TooFast => self.jitter.from(self.limits.retry_after_ms),
            _ => 0,
        };
        self.tally.close(code);
        let close = Close { code: code.into(), retry_after_ms, message: message.to_owned() };
        if tell(out, slot, close) {
            out.finish(slot);
        }
    }

    /// The generation of a connection, if there is one in the slot.
    pub fn generation(&self, slot: u32) -> Option<u32> {
        self.conns.get(slot as usize).map(|session| session.generation)
    }

    /// Which thread these are of.
    pub fn thread(&self) -> u8 {
        self.thread
    }

    /// Connections now, without those whose sockets broke.
    pub fn connections(&self) -> usize {
        self.conns.len() - self.ghosts
    }

    /// Connections whose sockets broke and that are kept for their devices to come back.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Live bindings now.
    pub fn live(&self) -> usize {
        self.users.len()
    }

    /// Whether nothing is left that would be lost if the thread ended.
    pub fn is_at_rest(&self) -> bool {
        self.conns.is_empty() && self.bindings.is_empty() && self.asks.is_empty() && !self.has_acks()
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    fn binding(&mut self, key: BindingKey) -> Option<&mut Binding> {
        self.bindings.get_mut(key.slot as usize).filter(|binding| binding.generation == key.generation)
    }
}

/// Sends an answer or a notice.
fn tell(out: &mut impl Outlet, slot: u32, message: impl Into<ServerFrame>) -> bool {
    let frame = message.into();
    let class = match &frame.body {
        // From here on numbers, bindings and apps mean something else, or nothing follows.
        Some(
            ServerBody::Connected(_)
            | ServerBody::Bound(_)
            | ServerBody::Unbound(_)
            | ServerBody::Rebased(_)
            | ServerBody::Close(_),
        ) => Class::Barrier,
        _ => Class::Control,
    };
    let frame = wire::codec::encode_server_frame(&frame);
    out.write(slot, frame.len(), class, |buffer| buffer.extend_from_slice(&frame))
}
