//! Ends the sessions of rooms that are gone.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cluster::{Cluster, NodeState, Picture, Role};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    homes::{Fate, RoomLife},
    metrics::RegisterMetrics,
    store::Store,
};

/// A life that binds have told of and no picture within this time did not come to be, or is over: discovery is behind by
/// seconds at most.
const UNSEEN: Duration = Duration::from_secs(60);
/// How often it is looked for those.
const LOOK: Duration = Duration::from_secs(10);

/// Follows the picture, and what binds say about new lives, and ends what is over.
pub(crate) struct Purger {
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: RegisterMetrics,
    pub(crate) lives: mpsc::Receiver<RoomLife>,
    pub(crate) cancel: CancellationToken,
}

impl Purger {
    pub(crate) async fn run(mut self, cluster: Cluster) {
        let cancel = self.cancel.clone();
        let mut pictures = cluster.picture();
        let mut known = Known::default();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut frozen = false;
        loop {
            let picture = pictures.borrow_and_update().clone();
            let fates = known.follow(&picture, Instant::now());
            self.purge(&fates).await;
            tokio::select! {
                () = cancel.cancelled() => return,
                // Discovery may go away: the last picture stays.
                changed = pictures.changed(), if !frozen => frozen = changed.is_err(),
                Some(life) = self.lives.recv() => {
                    let fate = known.begun(life, Instant::now());
                    self.purge(fate.as_slice()).await;
                }
                _ = look.tick() => {}
            }
        }
    }

    async fn purge(&self, fates: &[Fate]) {
        if fates.is_empty() {
            return;
        }
        let sessions = self.store.purge(fates).await;
        self.metrics.purged.inc_by(sessions as u64);
        if sessions > 0 {
            tracing::info!(?fates, sessions, "purged the sessions of rooms that are gone");
        }
    }
}

/// The rooms as last heard of. One that has left the picture is gone. One that is only unknown is not: discovery that goes
/// away ends nobody. Nor is one that is down: three polls that a busy machine answered too late look the same.
#[derive(Debug, Default)]
struct Known {
    rooms: HashMap<u32, Seen>,
    revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    incarnation: u64,
    up: bool,
    /// When a bind told of this life, and the picture that was known then, as long as no picture has shown it.
    unseen: Option<(Instant, u64)>,
}

impl Known {
    /// What a picture says to be over.
    fn follow(&mut self, picture: &Picture, now: Instant) -> Vec<Fate> {
        let mut fates = Vec::new();
        self.revision = picture.revision();
        for node in picture.of(Role::Room) {
            // 0: listed, but never heard of.
            if node.life() == 0 {
                continue;
            }
            let life = RoomLife { room: node.id.0, incarnation: node.life() };
            let up = node.state != NodeState::Down;
            let before = self.rooms.get(&life.room).copied();
            match before {
                // A bind told of a later life; the picture is behind.
                Some(before) if before.incarnation > life.incarnation => continue,
                Some(before) if before.incarnation == life.incarnation => match (before.up, up) {
                    (true, false) => fates.push(Fate::Away(life)),
                    (false, true) => fates.push(Fate::Back(life)),
                    _ => {}
                },
                // An earlier life may have sessions from before it was ever seen.
                _ => {
                    fates.push(Fate::Before(life));
                    if !up {
                        fates.push(Fate::Away(life));
                    }
                }
            }
            self.rooms.insert(life.room, Seen { incarnation: life.incarnation, up, unseen: None });
        }
        // A room that tells its sessions in a new life may be ahead of the picture: that it is not in there yet does not end
        // it. Only pictures of a later time do.
        let over = |seen: &Seen| match seen.unseen {
            None => true,
            Some((since, revision)) => {
                picture.revision() != revision && now.saturating_duration_since(since) >= UNSEEN
            }
        };
        let left = |room: &u32| picture.node(Role::Room, cluster::NodeId(*room)).is_none();
        // A room that has left says so once; should it come back in the same life, it is heard of as a new one.
        for (room, seen) in self.rooms.extract_if(|room, seen| left(room) && over(seen)) {
            fates.push(Fate::Gone(RoomLife { room, incarnation: seen.incarnation }));
        }
        fates
    }

    /// A bind came from a life that was not known yet.
    fn begun(&mut self, life: RoomLife, now: Instant) -> Option<Fate> {
        let seen = Seen { incarnation: life.incarnation, up: true, unseen: Some((now, self.revision)) };
        let before = self.rooms.get(&life.room).map_or(0, |seen| seen.incarnation);
        if before >= life.incarnation {
            return None;
        }
        self.rooms.insert(life.room, seen);
        Some(Fate::Before(life))
    }
}

#[cfg(test)]
mod tests {
    use cluster::{Incarnation, NodeId, NodeInfo};

    use super::*;

    fn picture(rooms: &[(u32, u64, NodeState)]) -> Picture {
        let room = |(id, incarnation, state): &(u32, u64, NodeState)| NodeInfo {
            incarnation: Incarnation(*incarnation),
            state: *state,
            ..NodeInfo::new(Role::Room, NodeId(*id))
        };
        Picture::new(1, rooms.iter().map(room).collect())
    }

    fn life(room: u32, incarnation: u64) -> RoomLife {
        RoomLife { room, incarnation }
    }

    #[test]
    fn tells_deaths_restarts_and_departures_once() {
        let mut known = Known::default();
        let ready = NodeState::Ready;
        assert_eq!(known.follow(&picture(&[(1, 0, NodeState::Starting)]), Instant::now()), []);
        assert_eq!(known.follow(&picture(&[(1, 4, ready)]), Instant::now()), [Fate::Before(life(1, 4))]);
        assert_eq!(known.follow(&picture(&[(1, 4, ready)]), Instant::now()), []);
        assert_eq!(
            known.follow(&picture(&[(1, 4, NodeState::Down)]), Instant::now()),
            [Fate::Away(life(1, 4))]
        );
        assert_eq!(known.follow(&picture(&[(1, 4, NodeState::Down)]), Instant::now()), []);
        assert_eq!(
            known.follow(&picture(&[(1, 4, ready)]), Instant::now()),
            [Fate::Back(life(1, 4))],
            "it was only slow"
        );
        assert_eq!(known.follow(&picture(&[(1, 5, ready)]), Instant::now()), [Fate::Before(life(1, 5))]);
        assert_eq!(known.follow(&picture(&[]), Instant::now()), [Fate::Gone(life(1, 5))]);
        assert_eq!(known.follow(&picture(&[]), Instant::now()), []);
    }

    #[test]
    fn a_bind_may_know_of_a_new_life_first() {
        let mut known = Known::default();
        known.follow(&picture(&[(1, 4, NodeState::Ready)]), Instant::now());
        assert_eq!(known.begun(life(1, 5), Instant::now()), Some(Fate::Before(life(1, 5))));
        assert_eq!(known.begun(life(1, 5), Instant::now()), None);
        // The picture is a second behind and still has the old life: that must not end the new one.
        assert_eq!(known.follow(&picture(&[(1, 4, NodeState::Ready)]), Instant::now()), []);
        assert_eq!(known.follow(&picture(&[(1, 5, NodeState::Ready)]), Instant::now()), []);
    }

    /// A room whose lease had lapsed told its sessions in its new life; a register whose picture lagged then heard that the
    /// old life was gone, and threw the new one's sessions away.
    #[test]
    fn a_life_that_the_picture_lags_behind_is_not_gone_with_the_one_before() {
        let (mut known, now) = (Known::default(), Instant::now());
        let at = |revision, rooms: &[(u32, u64, NodeState)]| {
            Picture::new(revision, picture(rooms).nodes().to_vec())
        };
        known.follow(&at(1, &[(1, 4, NodeState::Ready)]), now);
        assert_eq!(known.begun(life(1, 9), now), Some(Fate::Before(life(1, 9))));
        assert_eq!(known.follow(&at(2, &[]), now), [], "it is about to be there");
        let late = now + UNSEEN;
        let frozen = known.rooms[&1];
        known.rooms.insert(1, Seen { unseen: Some((now, 2)), ..frozen });
        assert_eq!(known.follow(&at(2, &[]), late), [], "no news since");
        assert_eq!(known.follow(&at(3, &[]), late), [Fate::Gone(life(1, 9))]);
    }
}
