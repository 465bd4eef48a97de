//! Whether the register can know yet who is offline.
//!
//! A register that starts knows nobody. The rooms tell their sessions again, and each says when it has told all.
//! Until then a user who is not found may well be online.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use cluster::{NodeState, Picture, Role};

/// Waits for the rooms that were there when the register started.
#[derive(Debug)]
pub(crate) struct Rebuild {
    /// Rooms that have yet to tell; None until the first picture.
    waiting: Mutex<Option<HashSet<u32>>>,
    over: AtomicBool,
    until: Instant,
}

impl Rebuild {
    pub(crate) fn new(until: Instant) -> Rebuild {
        Rebuild { waiting: Mutex::new(None), over: AtomicBool::new(false), until }
    }

    /// Whether a user who is not found may be online all the same.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        if now >= self.until {
            self.over.store(true, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Takes a picture. The first says whom to wait for; rooms that come later have had no sessions before.
    pub(crate) fn follow(&self, picture: &Picture) {
        self.change(|waiting| {
            let rooms = || picture.of(Role::Room).filter(|room| room.state != NodeState::Down);
            let rooms: HashSet<u32> = rooms().map(|room| room.id.0).collect();
            match waiting {
                Some(waiting) => waiting.retain(|room| rooms.contains(room)),
                None => *waiting = Some(rooms),
            }
        });
    }

    /// The room has told all it has.
    pub(crate) fn settled(&self, room: u32) {
        self.change(|waiting| {
            if let Some(waiting) = waiting {
                waiting.remove(&room);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Option<HashSet<u32>>)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut waiting);
        if waiting.as_ref().is_some_and(HashSet::is_empty) {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cluster::{Incarnation, NodeId, NodeInfo};

    use super::*;

    fn picture(rooms: &[(u32, NodeState)]) -> Picture {
        let room = |(id, state): &(u32, NodeState)| NodeInfo {
            incarnation: Incarnation(1),
            state: *state,
            ..NodeInfo::new(Role::Room, NodeId(*id))
        };
        Picture::new(1, rooms.iter().map(room).collect())
    }

    #[test]
    fn is_over_when_every_room_has_told_or_is_down() {
        let now = Instant::now();
        let rebuild = Rebuild::new(now + Duration::from_secs(5));
        assert!(rebuild.is_on(now), "nothing is known before the first picture");
        rebuild.follow(&picture(&[(1, NodeState::Ready), (2, NodeState::Ready), (3, NodeState::Down)]));
        rebuild.settled(1);
        assert!(rebuild.is_on(now));
        rebuild.follow(&picture(&[(1, NodeState::Ready), (2, NodeState::Down), (4, NodeState::Ready)]));
        assert!(!rebuild.is_on(now), "a room that came later has nothing to tell");
    }

    #[test]
    fn is_over_when_there_is_no_room_or_no_time() {
        let now = Instant::now();
        let none = Rebuild::new(now + Duration::from_secs(5));
        none.follow(&picture(&[]));
        assert!(!none.is_on(now));
        let silent = Rebuild::new(now + Duration::from_secs(5));
        silent.follow(&picture(&[(1, NodeState::Ready)]));
        assert!(silent.is_on(now));
        assert!(!silent.is_on(now + Duration::from_secs(5)));
    }
}
