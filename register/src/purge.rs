//! Ends the sessions of rooms that are gone.

use std::{collections::HashMap, sync::Arc};

use cluster::{Cluster, NodeState, Picture, Role};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    homes::{Fate, RoomLife},
    metrics::RegisterMetrics,
    rebuild::Rebuild,
    store::Store,
};

/// New lives that wait to be heard of. Should more come, the picture tells of them a second later.
pub(crate) const QUEUED_LIVES: usize = 1024;

/// Follows the picture, and what binds say about new lives, and ends what is over.
pub(crate) struct Purger {
    pub(crate) store: Arc<Store>,
    pub(crate) rebuild: Arc<Rebuild>,
    pub(crate) metrics: RegisterMetrics,
    pub(crate) lives: mpsc::Receiver<RoomLife>,
    pub(crate) cancel: CancellationToken,
}

impl Purger {
    pub(crate) async fn run(mut self, cluster: Cluster) {
        let cancel = self.cancel.clone();
        let mut pictures = cluster.picture();
        let mut known = Known::default();
        loop {
            let picture = pictures.borrow_and_update().clone();
            let fates = known.follow(&picture);
            self.rebuild.follow(&picture);
            self.purge(&fates).await;
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = pictures.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(life) = self.lives.recv() => {
                    let fate = known.begun(life);
                    self.purge(fate.as_slice()).await;
                }
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

/// The rooms as last heard of. A room that is only unknown is not gone: discovery that goes away ends nobody. Nor is one
/// that is down: three polls that a busy machine answered too late look the same.
#[derive(Debug, Default)]
struct Known {
    rooms: HashMap<u32, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    incarnation: u64,
    up: bool,
}

impl Known {
    /// What a picture says to be over.
    fn follow(&mut self, picture: &Picture) -> Vec<Fate> {
        let mut fates = Vec::new();
        for node in picture.of(Role::Room) {
            // 0: listed, but never heard of.
            if node.incarnation.0 == 0 {
                continue;
            }
            let life = RoomLife { room: node.id.0, incarnation: node.incarnation.0 };
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
            self.rooms.insert(life.room, Seen { incarnation: life.incarnation, up });
        }
        let left = |room: &u32| picture.node(Role::Room, cluster::NodeId(*room)).is_none();
        // A room that has left says so once; should it come back in the same life, it is heard of as a new one.
        for (room, seen) in self.rooms.extract_if(|room, _| left(room)) {
            fates.push(Fate::Gone(RoomLife { room, incarnation: seen.incarnation }));
        }
        fates
    }

    /// A bind came from a life that was not known yet.
    fn begun(&mut self, life: RoomLife) -> Option<Fate> {
        let seen = self.rooms.entry(life.room).or_insert(Seen { incarnation: 0, up: true });
        if seen.incarnation >= life.incarnation {
            return None;
        }
        *seen = Seen { incarnation: life.incarnation, up: true };
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
        assert_eq!(known.follow(&picture(&[(1, 0, NodeState::Starting)])), []);
        assert_eq!(known.follow(&picture(&[(1, 4, ready)])), [Fate::Before(life(1, 4))]);
        assert_eq!(known.follow(&picture(&[(1, 4, ready)])), []);
        assert_eq!(known.follow(&picture(&[(1, 4, NodeState::Down)])), [Fate::Away(life(1, 4))]);
        assert_eq!(known.follow(&picture(&[(1, 4, NodeState::Down)])), []);
        assert_eq!(known.follow(&picture(&[(1, 4, ready)])), [Fate::Back(life(1, 4))], "it was only slow");
        assert_eq!(known.follow(&picture(&[(1, 5, ready)])), [Fate::Before(life(1, 5))]);
        assert_eq!(known.follow(&picture(&[])), [Fate::Gone(life(1, 5))]);
        assert_eq!(known.follow(&picture(&[])), []);
    }

    #[test]
    fn a_bind_may_know_of_a_new_life_first() {
        let mut known = Known::default();
        known.follow(&picture(&[(1, 4, NodeState::Ready)]));
        assert_eq!(known.begun(life(1, 5)), Some(Fate::Before(life(1, 5))));
        assert_eq!(known.begun(life(1, 5)), None);
        // The picture is a second behind and still has the old life: that must not end the new one.
        assert_eq!(known.follow(&picture(&[(1, 4, NodeState::Ready)])), []);
        assert_eq!(known.follow(&picture(&[(1, 5, NodeState::Ready)])), []);
    }
}
