//! A room's thread: does with its sessions what the event loop does, on simulated sockets.

use room::{
    exchange::{Asks, ConnKey, DrainOrder},
    resume::Sealer,
    session::{Moving, Next, Sessions},
};
use wire::{ServerDecoder, limits::MAX_CLIENT_FRAME};

use super::{
    cluster::Bind,
    wires::Wires,
    world::{Event, Life, World},
};

/// Items that the rest of the room takes at a time.
const BATCH: usize = 3;

pub(crate) struct Room {
    pub(crate) life: Life,
    pub(crate) sessions: Sessions,
    wires: Wires,
    decoders: Vec<ServerDecoder>,
    /// The line of each slot.
    lines: Vec<usize>,
    pub(crate) turn_is_due: bool,
    pub(crate) drains: bool,
}

impl Room {
    pub(crate) fn new(world: &World, life: Life) -> Self {
        let seed = u64::from(life.number) + 1;
        let sessions = Sessions::new(world.limits.clone(), life.room as u8, seed, world.clock());
        let key = [life.room as u8 * 16 + life.number as u8; 32];
        Self {
            life,
            sessions: sessions.with_resume(Sealer::with_key(&key)),
            wires: Wires::default(),
            decoders: Vec::new(),
            lines: Vec::new(),
            turn_is_due: false,
            drains: false,
        }
    }
}

impl World {
    /// A device comes. `None`: the room takes nobody.
    pub(crate) fn accept(&mut self, room: usize, device: usize) -> Option<usize> {
        let now = self.clock();
        let key = self.rooms[room].sessions.open(now)?;
        let line = self.new_line(device, self.rooms[room].life, key);
        self.seat(line, key, ServerDecoder::for_server(MAX_CLIENT_FRAME));
        Some(line)
    }

    pub(crate) fn room_reads(&mut self, line: usize, mut bytes: &[u8]) {
        let (number, slot) = (self.lines[line].life.room, self.lines[line].key.slot);
        let now = self.clock();
        let room = &mut self.rooms[number];
        room.wires.now_ms = now.ms;
        if room.wires.socket(slot).finishing || room.wires.socket(slot).dead {
            return;
        }
        loop {
            let slot = self.lines[line].key.slot;
            let room = &mut self.rooms[number];
            let frame = match room.decoders[slot as usize].decode(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => panic!("the device sends what is no frame: {error}"),
            };
            match room.sessions.on_frame(slot, frame, now, &mut room.wires) {
                Next::More => {}
                Next::Stop => break,
                Next::Move(moving) if self.go_on(line, &moving) => {}
                Next::Move(_) => return,
            }
        }
        self.turn(number);
    }

    /// A line takes its place in the room.
    fn seat(&mut self, line: usize, key: ConnKey, decoder: ServerDecoder) {
        let number = self.lines[line].life.room;
        self.lines[line].key = key;
        let room = &mut self.rooms[number];
        while room.lines.len() <= key.slot as usize {
            room.lines.push(usize::MAX);
            room.decoders.push(ServerDecoder::for_server(MAX_CLIENT_FRAME));
        }
        room.lines[key.slot as usize] = line;
        room.decoders[key.slot as usize] = decoder;
        room.wires.insert(key.slot);
    }

    /// The device goes on in the seat of an earlier connection, if it is still there; else it begins anew. `false`: the room
    /// has no place.
    fn go_on(&mut self, line: usize, moving: &Moving) -> bool {
        let (number, now) = (self.lines[line].life.room, self.clock());
        let from = self.lines[line].key.slot;
        let room = &mut self.rooms[number];
        let decoder =
            std::mem::replace(&mut room.decoders[from as usize], ServerDecoder::for_server(MAX_CLIENT_FRAME));
        room.sessions.move_away(from);
        room.wires.remove(from);
        let seat = room.sessions.take_seat(moving.seat, now);
        if let Some(key) = seat {
            let old = room.lines[key.slot as usize];
            if old != line && !std::mem::replace(&mut self.lines[old].room_gone, true) {
                self.end_down(old);
            }
            self.seat(line, key, decoder);
            self.resumed += 1;
            let room = &mut self.rooms[number];
            room.sessions.resume(key.slot, &moving.connect, now, &mut room.wires);
        } else if let Some(key) = room.sessions.open(now) {
            self.seat(line, key, decoder);
            let room = &mut self.rooms[number];
            room.sessions.greet(key.slot, &moving.connect, now, &mut room.wires);
        } else {
            self.lines[line].room_gone = true;
            self.end_down(line);
            return false;
        }
        true
    }

    /// The socket takes bytes again.
    pub(crate) fn room_writes(&mut self, line: usize) {
        let number = self.lines[line].life.room;
        self.rooms[number].wires.now_ms = self.now;
        self.flush(line);
        self.turn(number);
    }

    /// The other end has closed, or the line has broken.
    pub(crate) fn room_closes(&mut self, line: usize) {
        let (number, slot) = (self.lines[line].life.room, self.lines[line].key.slot);
        self.let_go(number, slot);
        self.turn(number);
    }

    fn let_go(&mut self, number: usize, slot: u32) {
        let now = self.clock();
        let room = &mut self.rooms[number];
        room.sessions.on_lost(slot, now);
        room.wires.remove(slot);
        let line = room.lines[slot as usize];
        self.lines[line].room_gone = true;
        self.end_down(line);
    }

    fn flush(&mut self, line: usize) {
        let (number, slot) = (self.lines[line].life.room, self.lines[line].key.slot);
        let window = self.window(line);
        let bytes = self.rooms[number].wires.write(slot, window);
        if !bytes.is_empty() {
            self.send_down(line, &bytes);
        }
        let socket = self.rooms[number].wires.socket(slot);
        if std::mem::take(&mut socket.ended) {
            self.end_down(line);
        }
    }

    /// What the loop does at the end of each turn.
    pub(crate) fn turn(&mut self, number: usize) {
        let now = self.clock();
        let room = &mut self.rooms[number];
        room.wires.now_ms = now.ms;
        for slot in std::mem::take(&mut room.wires.drained) {
            room.sessions.on_drained(slot, &mut room.wires);
        }
        let mut more = room.sessions.work(now, &mut room.wires);
        more |= room.sessions.end_some(now, &mut room.wires);
        if room.drains {
            more |= room.sessions.drain_step(now, &mut room.wires);
        }
        for slot in std::mem::take(&mut room.wires.dirty) {
            let line = self.rooms[number].lines[slot as usize];
            self.flush(line);
        }
        for slot in std::mem::take(&mut self.rooms[number].wires.dead) {
            if self.rooms[number].wires.socket(slot).dead {
                self.let_go(number, slot);
            }
        }
        self.check_bounds(number);
        let stalled = self.chance(self.weather.stall);
        if !stalled {
            more |= self.hand_over(number);
        }
        more |= !self.rooms[number].wires.drained.is_empty();
        if (more || stalled) && !self.rooms[number].turn_is_due {
            self.rooms[number].turn_is_due = true;
            let life = self.rooms[number].life;
            self.at(if more { 1 } else { 10 }, Event::Turn(life));
        }
    }

    pub(crate) fn tick(&mut self, number: usize) {
        let now = self.clock();
        let room = &mut self.rooms[number];
        room.wires.now_ms = now.ms;
        room.sessions.on_tick(now, &mut room.wires);
        self.turn(number);
    }

    fn check_bounds(&self, number: usize) {
        let (sessions, limits) = (&self.rooms[number].sessions, &self.limits);
        let Asks { binds, loads, ups, pages, .. } = &sessions.asks;
        for waiting in [binds.len(), loads.len(), ups.len(), pages.len()] {
            assert!(waiting <= limits.asks, "{waiting} asks wait");
        }
        assert!(sessions.connections() <= limits.connections);
        // What a page may leave for one connection beyond the bound.
        assert!(self.rooms[number].wires.pages < 64 << 10, "{}", self.rooms[number].wires.pages);
    }

    /// The rest of the room takes what the thread asks for.
    fn hand_over(&mut self, number: usize) -> bool {
        let life = self.rooms[number].life;
        let sessions = &mut self.rooms[number].sessions;
        let binds = sessions.asks.binds.take(BATCH);
        let loads = sessions.asks.loads.take(BATCH);
        let ups = sessions.asks.ups.take(BATCH);
        let pages = sessions.asks.pages.take(BATCH);
        let keeps = sessions.asks.keeps.take(BATCH);
        let acks = sessions.take_acks(BATCH);
        let ends = sessions.take_ends(BATCH);
        let left = !sessions.asks.is_empty() || sessions.has_acks() || sessions.has_ends();
        for ask in binds {
            self.enter(Bind::new(life, ask));
        }
        loads.into_iter().for_each(|ask| self.soon(Event::Load(life, ask)));
        ups.into_iter().for_each(|ask| self.soon(Event::Ups(life, ask)));
        pages.into_iter().for_each(|ask| self.soon(Event::Page(life, ask)));
        keeps.into_iter().for_each(|ask| self.soon(Event::Keep(life, ask)));
        for ask in acks {
            if self.chance(self.weather.double) {
                self.soon(Event::Ack(ask.clone()));
            }
            self.soon(Event::Ack(ask));
        }
        ends.into_iter().for_each(|ask| self.soon(Event::End(ask)));
        left
    }

    /// Does something with a room's sessions, then a turn.
    pub(crate) fn order<T>(
        &mut self,
        life: Life,
        order: impl FnOnce(&mut Sessions, &mut Wires) -> T,
    ) -> Option<T> {
        if !self.is_alive(life) {
            return None;
        }
        let room = &mut self.rooms[life.room];
        room.wires.now_ms = self.now;
        let result = order(&mut room.sessions, &mut room.wires);
        self.turn(life.room);
        Some(result)
    }

    pub(crate) fn drain(&mut self, number: usize) {
        let now = self.clock();
        self.rooms[number].drains = true;
        let order = DrainOrder { per_second: 20, spread_ms: 300, linger_ms: 1_000 };
        self.rooms[number].sessions.start_drain(order, now);
    }

    /// kill -9: nothing of it is left, and its sockets break.
    pub(crate) fn crash(&mut self, number: usize) {
        let old = self.rooms[number].life;
        let life = Life { number: old.number + 1, ..old };
        let room = Room::new(self, life);
        self.rooms[number] = room;
        for line in 0..self.lines.len() {
            if self.lines[line].life == old && !self.lines[line].room_gone {
                self.break_line(line);
            }
        }
        for log in &mut self.logs {
            log.kept[number] = None;
        }
        self.users.iter_mut().for_each(|user| user.forget(number));
        self.at(3_000, Event::Purge(old));
    }
}
