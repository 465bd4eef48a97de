//! Whether the register can know yet who is offline.
//!
//! A register that starts knows nobody; one whose lease had ended has forgotten all; one that takes over from a register
//! that is gone does not know those users. The rooms tell their sessions, and each says when it has told all. Until then a
//! user who is not found may well be online.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{NodeState, Picture, Role};
use peers::membership;
use proto::internal::SettleRequest;

/// Waits for the rooms that were there when sessions went missing.
#[derive(Debug)]
pub(crate) struct Rebuild {
    state: Mutex<State>,
    /// There is nobody to wait for. Read before every answer, so it is no part of the state.
    over: AtomicBool,
    /// What was told in one round may be lost to the next.
    round: AtomicU64,
    patience: Duration,
}

#[derive(Debug)]
struct State {
    until: Instant,
    /// Rooms that have yet to tell; None until the first picture.
    waiting: Option<HashSet<u32>>,
    /// The registers of the last picture, and their number.
    registers: BTreeSet<u32>,
    members: u64,
}

impl Rebuild {
    /// `first` is the patience after the start, `patience` that of every later round.
    pub(crate) fn new(now: Instant, first: Duration, patience: Duration) -> Rebuild {
        let state = State { until: now + first, waiting: None, registers: BTreeSet::new(), members: 0 };
        Rebuild { state: Mutex::new(state), over: AtomicBool::new(false), round: AtomicU64::new(1), patience }
    }

    /// Whether a user who is not found may be online all the same.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        !self.over.load(Ordering::Relaxed) && now < self.lock().until
    }

    /// The present round.
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Ordering::SeqCst)
    }

    /// Whatever was told until now may be lost: it does not count.
    pub(crate) fn next_round(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a picture. True if users of a register that is gone may be this one's now: then a round has begun, and the
    /// caller is to end it with [`Rebuild::next_round`] when it has forgotten what it knows of them. Rooms that come later
    /// have had no sessions before.
    pub(crate) fn follow(&self, picture: &Picture, now: Instant) -> bool {
        let rooms = rooms(picture);
        let registers: BTreeSet<u32> = picture.of(Role::Register).map(|node| node.id.0).collect();
        let mut state = self.lock();
        let gained = !state.registers.is_subset(&registers);
        state.registers = registers;
        state.members = membership(picture);
        match &mut state.waiting {
            Some(waiting) if !gained => waiting.retain(|room| rooms.contains(room)),
            first => {
                *first = Some(rooms);
                if gained {
                    state.until = now + self.patience;
                }
            }
        }
        self.note(&state);
        gained
    }

    /// Everything was forgotten: a round begins, in which all rooms of the picture are waited for.
    pub(crate) fn begin(&self, picture: &Picture, now: Instant) {
        let mut state = self.lock();
        state.waiting = Some(rooms(picture));
        state.until = now + self.patience;
        self.note(&state);
        drop(state);
        self.next_round();
    }

    /// A room says that it has told all it has. True if it is still waited for: a round has begun meanwhile, or the room and
    /// this register differ in who the registers are.
    pub(crate) fn settled(&self, request: &SettleRequest) -> bool {
        let mut state = self.lock();
        let (members, round) = (state.members, self.round());
        let Some(waiting) = &mut state.waiting else { return true };
        if request.members == members && request.round == round {
            waiting.remove(&request.room);
        }
        let again = waiting.contains(&request.room);
        self.note(&state);
        again
    }

    fn note(&self, state: &State) {
        self.over.store(state.waiting.as_ref().is_some_and(HashSet::is_empty), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rooms that may have sessions; one that is only listed and was not heard of yet may have some too.
fn rooms(picture: &Picture) -> HashSet<u32> {
    picture.of(Role::Room).filter(|node| node.state != NodeState::Down).map(|node| node.id.0).collect()
}

#[cfg(test)]
#[path = "rebuild_tests.rs"]
mod tests;
