//! Lives of rooms, as one shard knows them.
//!
//! A session names its room and the room's incarnation by an index of two bytes. A life that ended is only
//! marked: its sessions are offline from that moment on, and a sweep frees them later. A room that is only out of sight
//! keeps its sessions, which are offline until it is back: it does not know that it was missed, so it would not tell them
//! again.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// For so long nobody can tell whether a room that does not answer is dead. A message that is stored meanwhile is offered
/// again until then, and so reaches a user whose room was only slow; a minute is more than any pause that a connection's
/// heartbeat outlives.
const UNSURE: Duration = Duration::from_secs(60);

/// One life of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoomLife {
    /// Node id of the room.
    pub room: u32,
    /// Grows at every start of the room, and whenever it registers again ([`cluster::NodeInfo::life`]).
    pub incarnation: u64,
}

/// What has become of lives of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// All that came before this one are over: it is known to have begun.
    Before(RoomLife),
    /// This one does not answer. It may be dead, or only slow.
    Away(RoomLife),
    /// This one was only slow.
    Back(RoomLife),
    /// This one is over: it has left.
    Gone(RoomLife),
}

#[derive(Debug, Clone, Copy)]
struct Home {
    life: RoomLife,
    sessions: u32,
    state: State,
    /// When it went out of sight for the last time.
    away: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    /// Out of sight, and back at any moment, or never.
    Away,
    /// Ended, with sessions that a purge has yet to free.
    Ended,
    /// The index is free for another life.
    Free,
}

#[derive(Debug, Clone, Copy)]
struct Latest {
    incarnation: u64,
    /// None when that life has ended and no later one has been heard of.
    home: Option<u16>,
}

/// What came of asking for the home of a room's life.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// Here it is.
    Home(u16),
    /// Here it is, for the first time; an earlier life of the room, if there was one, has thereby ended.
    NewLife(u16),
    /// A later life of the room is known: whoever speaks is gone.
    Stale,
    /// More lives at once than an index can tell apart; a cluster has at most 1,024 nodes.
    Full,
}

#[derive(Debug, Default)]
pub(crate) struct Homes {
    homes: Vec<Home>,
    free: Vec<u16>,
    latest: HashMap<u32, Latest>,
}

impl Homes {
    /// The index of a room's life, which is made if it is new.
    pub(crate) fn enter(&mut self, life: RoomLife) -> Entered {
        let known = self.latest.get(&life.room).copied();
        match known {
            Some(latest) if latest.incarnation > life.incarnation => return Entered::Stale,
            Some(Latest { incarnation, home: Some(home) }) if incarnation == life.incarnation => {
                // Who speaks is there.
                self.set(home, State::Away, State::Alive);
                return Entered::Home(home);
            }
            _ => {}
        }
        let Some(home) = self.add(life) else { return Entered::Full };
        self.latest.insert(life.room, Latest { incarnation: life.incarnation, home: Some(home) });
        if let Some(old) = known.and_then(|latest| latest.home) {
            self.end_home(old);
        }
        Entered::NewLife(home)
    }

    /// Notes what has become of lives. True if an ended one still has sessions here.
    pub(crate) fn note(&mut self, fates: &[Fate], now: Instant) -> bool {
        for fate in fates {
            let over = match *fate {
                Fate::Before(RoomLife { room, incarnation }) => {
                    let latest = self.latest.entry(room).or_insert(Latest { incarnation, home: None });
                    let earlier = latest.incarnation < incarnation;
                    latest.incarnation = latest.incarnation.max(incarnation);
                    latest.home.take_if(|_| earlier)
                }
                Fate::Gone(life) => self.latest_of(life).and_then(|latest| latest.home.take()),
                Fate::Away(life) | Fate::Back(life) => {
                    let (from, to) = match fate {
                        Fate::Away(_) => (State::Alive, State::Away),
                        _ => (State::Away, State::Alive),
                    };
                    if let Some(home) = self.latest_of(life).and_then(|latest| latest.home) {
                        self.set(home, from, to);
                        self.homes[usize::from(home)].away = Some(now);
                    }
                    None
                }
            };
            if let Some(home) = over {
                self.end_home(home);
            }
        }
        self.homes.iter().any(|home| home.state == State::Ended)
    }

    fn latest_of(&mut self, life: RoomLife) -> Option<&mut Latest> {
        self.latest.get_mut(&life.room).filter(|latest| latest.incarnation == life.incarnation)
    }

    fn set(&mut self, home: u16, from: State, to: State) {
        let state = &mut self.homes[usize::from(home)].state;
        if *state == from {
            *state = to;
        }
    }

    pub(crate) fn life(&self, home: u16) -> RoomLife {
        self.homes[usize::from(home)].life
    }

    /// Whether the life answers, as far as is known.
    pub(crate) fn is_alive(&self, home: u16) -> bool {
        self.homes[usize::from(home)].state == State::Alive
    }

    /// Whether the life does not answer, but may well be there.
    pub(crate) fn is_unsure(&self, home: u16, now: Instant) -> bool {
        let home = &self.homes[usize::from(home)];
        home.state == State::Away
            && home.away.is_some_and(|away| now.saturating_duration_since(away) < UNSURE)
    }

    /// Whether the life is over for good.
    pub(crate) fn is_over(&self, home: u16) -> bool {
        !matches!(self.homes[usize::from(home)].state, State::Alive | State::Away)
    }

    pub(crate) fn count_in(&mut self, home: u16) {
        self.homes[usize::from(home)].sessions += 1;
    }

    /// Must be the last use of the index by that session: it may name another life afterwards.
    pub(crate) fn count_out(&mut self, home: u16) {
        let entry = &mut self.homes[usize::from(home)];
        entry.sessions -= 1;
        if entry.state == State::Ended && entry.sessions == 0 {
            self.release(home);
        }
    }

    fn add(&mut self, life: RoomLife) -> Option<u16> {
        let entry = Home { life, sessions: 0, state: State::Alive, away: None };
        if let Some(home) = self.free.pop() {
            self.homes[usize::from(home)] = entry;
            return Some(home);
        }
        let home = u16::try_from(self.homes.len()).ok()?;
        self.homes.push(entry);
        Some(home)
    }

    fn end_home(&mut self, home: u16) {
        let entry = &mut self.homes[usize::from(home)];
        entry.state = State::Ended;
        if entry.sessions == 0 {
            self.release(home);
        }
    }

    fn release(&mut self, home: u16) {
        self.homes[usize::from(home)].state = State::Free;
        self.free.push(home);
    }
}
