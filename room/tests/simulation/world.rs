//! Everything there is, and the order in which things happen: one queue of events in virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use audience::Slice;
use client::{Config, backoff::Dice};
use room::{
    clock::Now,
    exchange::{
        AckAsk, DeliveryItem, EndAsk, KeepAnswer, KeepAsk, KickOrder, LoadAnswer, LoadAsk, LogRun, PageAsk,
        UpAnswer, UpAsk,
    },
    session::Limits,
    wheel::TICK_MS,
};
use wire::id::{AppId, BindingId, Cursor, FenceNumber, Position};

use super::{
    cluster::{Bind, User},
    device::Device,
    line::Line,
    log::Log,
    rooms::Room,
    weather::Weather,
};

/// Virtual milliseconds since 1970 at which every run begins.
const UNIX_MS: u64 = 1_800_000_000_000;

/// A life of a room: an answer to one that has died since means nothing to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) room: usize,
    pub(crate) number: u32,
}

/// What happens to the cluster's users by their own doing.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A message for a user is stored.
    Push(usize),
    /// A stored message of a user expires.
    Expire(usize),
    /// A user's store is lost and rebuilt.
    Rebuild(usize),
    /// A user is kicked.
    Kick(usize),
    /// A broadcast of an app: its audience, the time it lives if not for ever.
    Broadcast(usize, &'static str, Option<u64>),
    /// A paced broadcast: so many slices, and the ms between them.
    Paced(usize, &'static str, u64, u64),
    /// The saver dies: cursors that it has taken and not written, because they count nothing, are lost.
    Forget,
    /// A device sends data.
    Up(usize),
    /// A device is cut off, and does not know it if so.
    Cut(usize, bool),
    /// A device sleeps: it reads nothing and no timer of it fires.
    Freeze(usize, u64),
    /// A device does not read, but goes on otherwise.
    Pause(usize, u64),
    /// A device's app binds or unbinds its last binding.
    Unbind(usize),
    /// A room sends its devices away.
    Drain(usize),
    /// A room dies.
    Crash(usize),
}

#[derive(Debug)]
pub(crate) enum Event {
    Up(usize, Vec<u8>),
    UpEnd(usize),
    Down(usize, Vec<u8>),
    DownEnd(usize),
    Turn(Life),
    Tick,
    Dial(usize),
    Wake(usize),
    Thaw(usize),
    Confirm(usize, BindingId, Position),
    ConfirmBroadcast(usize, BindingId, Cursor),
    Rebind(usize, BindingId),
    Token(usize, BindingId),
    Register(Bind),
    Open(Bind),
    Bound(Bind),
    Load(Life, LoadAsk),
    Loaded(Life, LoadAnswer),
    Ack(AckAsk),
    End(EndAsk),
    Keep(Life, KeepAsk),
    Kept(Life, KeepAnswer),
    Ups(Life, UpAsk),
    UpsDone(Life, UpAnswer),
    Page(Life, PageAsk),
    Run(Life, LogRun, bool),
    PageFailed(Life, AppId),
    LookUp(usize, DeliveryItem),
    Deliver(Life, DeliveryItem),
    Kick(Life, KickOrder),
    Unbind(usize, FenceNumber),
    Purge(Life),
    Sweep,
    Poll,
    Act(Act),
    Slice(usize, &'static str, u64, Slice),
}

struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Timed>>,
    order: u64,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) limits: Limits,
    pub(crate) config: std::sync::Arc<Config>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) lines: Vec<Line>,
    pub(crate) devices: Vec<Device>,
    pub(crate) users: Vec<User>,
    pub(crate) logs: Vec<Log>,
    pub(crate) fence: u64,
    pub(crate) next_id: u64,
    /// References of upstream data that the backend has.
    pub(crate) taken: HashSet<(usize, u64)>,
    /// Connections that went on where an earlier one broke.
    pub(crate) resumed: u64,
    /// The archive has kept a cursor, and the room was not told.
    pub(crate) untold: bool,
    /// No device dials any more.
    pub(crate) over: bool,
    /// Where the first lines are cut, for whoever tries all places: bytes up, bytes down.
    pub(crate) cuts: Vec<(Option<u64>, Option<u64>, bool)>,
    /// What happened, for whoever looks into a failure.
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, rooms: usize, apps: usize, limits: Limits, config: Config) -> Self {
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            dice: Dice::new(seed),
            weather: Weather::calm(),
            limits,
            config: config.into(),
            rooms: Vec::new(),
            lines: Vec::new(),
            devices: Vec::new(),
            users: Vec::new(),
            logs: (0..apps).map(|app| Log::new(AppId(app as u32 + 1), rooms)).collect(),
            fence: 0,
            next_id: 0,
            taken: HashSet::new(),
            resumed: 0,
            untold: false,
            over: false,
            cuts: Vec::new(),
            trace: std::env::var_os("SIMULATION_TRACE").map(|_| Vec::new()),
        };
        for number in 0..rooms {
            let room = Room::new(&world, Life { room: number, number: 0 });
            world.rooms.push(room);
        }
        world.at(TICK_MS, Event::Tick);
        world.at(1_000, Event::Sweep);
        world.at(1_000, Event::Poll);
        world
    }

    pub(crate) fn clock(&self) -> Now {
        Now { ms: self.now, unix_ms: UNIX_MS + self.now }
    }

    /// Something happens in so many ms.
    pub(crate) fn at(&mut self, wait: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Timed(self.now + wait, self.order, event)));
    }

    /// Anything from `least` to `most`.
    pub(crate) fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.dice.below(most - least + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    /// The cluster does something for whoever asked, after a while.
    pub(crate) fn soon(&mut self, event: Event) {
        let wait = self.between(self.weather.answer);
        self.at(wait, event);
    }

    pub(crate) fn is_alive(&self, life: Life) -> bool {
        self.rooms[life.room].life == life
    }

    /// Something worth to know of in a trace.
    pub(crate) fn note(&mut self, note: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>7} {}", note()));
        }
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(Reverse(Timed(at, ..))) = self.queue.peek()
            && *at <= end
        {
            let Some(Reverse(Timed(at, _, event))) = self.queue.pop() else { return };
            self.now = at;
            if let Some(trace) = &mut self.trace
                && !matches!(event, Event::Tick | Event::Sweep | Event::Poll | Event::Turn(_))
            {
                let what: String = format!("{event:?}").chars().take(900).collect();
                trace.push(format!("{at:>7} {what}"));
            }
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(line, bytes) => self.on_up(line, &bytes),
            Event::UpEnd(line) => self.on_up_end(line),
            Event::Down(line, bytes) => self.on_down(line, &bytes),
            Event::DownEnd(line) => self.on_down_end(line),
            Event::Turn(life) if self.is_alive(life) => {
                self.rooms[life.room].turn_is_due = false;
                self.turn(life.room);
            }
            Event::Tick => {
                self.at(TICK_MS, Event::Tick);
                (0..self.rooms.len()).for_each(|room| self.tick(room));
            }
            Event::Dial(device) => self.dial(device),
            Event::Wake(device) => self.wake(device),
            Event::Thaw(device) => self.thaw(device),
            Event::Confirm(device, binding, at) => self.confirm(device, binding, at),
            Event::ConfirmBroadcast(device, binding, at) => self.confirm_broadcast(device, binding, at),
            Event::Rebind(device, binding) => self.rebind(device, binding),
            Event::Token(device, binding) => self.give_token(device, binding),
            Event::Act(act) => self.act(&act),
            Event::Slice(app, audience, id, slice) => self.publish(app, id, audience, slice, 0),
            cluster => self.cluster(cluster),
        }
    }

    /// Says what went wrong, with all that happened before if that was asked for.
    pub(crate) fn tell(&self) {
        for line in self.trace.iter().flatten() {
            eprintln!("{line}");
        }
    }
}
