//! The parts of a job that rooms are: telling them of slices and asking how far they are, each by the center that is
//! responsible for it.

use std::time::Duration;

use cluster::NodeId;
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use peers::PeerError;
use proto::internal::{
    BroadcastNotice, PartProgressRequest, PartProgressResponse, Progress, ProgressRequest, RelayRequest,
};
use tokio::time::timeout;

use super::{follow::Follow, owners, reach::Reach};

/// A center that has not done its part by then has it done by whoever asked it: two slices of a paced job. One that stands still is in
/// the picture for seconds more, and what its rooms were not told meanwhile they would send at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// What rooms told of some broadcasts.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Of each room that answered, one for each id.
    pub(crate) rooms: Vec<(NodeId, Vec<Progress>)>,
    /// Rooms that did not.
    pub(crate) missed: Vec<NodeId>,
    /// Rooms that did, but have not come as far as was asked: their counts are not of everybody yet.
    pub(crate) behind: Vec<NodeId>,
}

/// A place in an app's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) app: u32,
    pub(crate) epoch: u64,
    pub(crate) head: u64,
}

impl Told {
    /// The sum over the rooms of the `index`-th broadcast.
    pub(crate) fn sum(&self, index: usize) -> Progress {
        let mut sum = Progress::default();
        for (_, progress) in &self.rooms {
            if let Some(one) = progress.get(index) {
                sum.id = one.id;
                peers::add_progress(&mut sum, one);
            }
        }
        sum
    }
}

/// Speaks to the rooms through the centers that are responsible for them.
#[derive(Clone)]
pub(crate) struct Parts {
    reach: Reach,
    follow: Follow,
}

impl Parts {
    pub(crate) fn new(reach: Reach, follow: Follow) -> Parts {
        Parts { reach, follow }
    }

    /// Tells every room of a slice, each through the center that is responsible for it. A center that does not take its part has
    /// it done here. Rooms that nobody reached find the slice by the log's head.
    pub(crate) async fn tell(&self, notice: &BroadcastNotice) {
        let (picture, me) = (self.reach.picture(), self.reach.me());
        let parts = owners::parts(&picture, me, notice.id, owners::rooms(&picture));
        let calls = parts.into_iter().map(|(center, rooms)| async move {
            if center == me {
                return self.tell_part(notice, &rooms).await;
            }
            let ids = rooms.iter().map(|room| room.0).collect();
            let request = RelayRequest { notice: Some(notice.clone()), rooms: ids };
            match in_time(center, self.reach.centers.relay(center, request).boxed()).await {
                Some(missed) => missed,
                None => {
                    self.reach.metrics.job_parts_taken.inc();
                    self.tell_part(notice, &rooms).await
                }
            }
        });
        let missed = join_all(calls).await.into_iter().flatten().collect();
        self.warn(notice, missed);
    }

    /// Tells every room of a broadcast from here.
    pub(crate) async fn tell_here(&self, notice: &BroadcastNotice) {
        let missed = self.tell_part(notice, &owners::rooms(&self.reach.picture())).await;
        self.warn(notice, missed);
    }

    fn warn(&self, notice: &BroadcastNotice, missed: Vec<NodeId>) {
        for room in missed {
            // Not lost: the room compares the log's head with what it has every few seconds.
            tracing::warn!(app = notice.app, id = notice.id, %room, "a room was not told of a broadcast at once");
        }
    }

    /// Tells the rooms themselves, and follows them; answers those that did not take it.
    pub(crate) async fn tell_part(&self, notice: &BroadcastNotice, rooms: &[NodeId]) -> Vec<NodeId> {
        self.follow.note(notice.app, notice.id, rooms);
        let missed = self.reach.rooms.broadcast_to(rooms, notice).await;
        missed.into_iter().map(|(room, _)| room).collect()
    }

    /// What all rooms say of a broadcast, now, and which of them have not come as far as a place in the log.
    pub(crate) async fn progress(&self, id: u64, upto: Option<Place>) -> Told {
        let (picture, me) = (self.reach.picture(), self.reach.me());
        let parts = owners::parts(&picture, me, id, owners::rooms(&picture));
        let calls = parts.into_iter().map(|(center, rooms)| async move {
            if center == me {
                return self.progress_part(&rooms, &[id], upto).await;
            }
            let ProgressRequest { ids, app, epoch, head } = request(&[id], upto);
            let asked = rooms.iter().map(|room| room.0).collect();
            let request = PartProgressRequest { ids, rooms: asked, app, epoch, head };
            match in_time(center, self.reach.centers.part_progress(center, request).boxed()).await {
                Some(PartProgressResponse { progress, missed, behind }) => {
                    let answered = rooms.into_iter().filter(|room| !missed.contains(&room.0));
                    let rooms = answered.zip(progress.into_iter().map(|one| vec![one])).collect();
                    let nodes = |ids: Vec<u32>| ids.into_iter().map(NodeId).collect();
                    Told { rooms, missed: nodes(missed), behind: nodes(behind) }
                }
                None => {
                    self.reach.metrics.job_parts_taken.inc();
                    self.progress_part(&rooms, &[id], upto).await
                }
            }
        });
        let mut all = Told::default();
        for told in join_all(calls).await {
            all.rooms.extend(told.rooms);
            all.missed.extend(told.missed);
            all.behind.extend(told.behind);
        }
        all
    }

    /// What all rooms say of many broadcasts, asked by this center itself: a page of a list has parts of every center.
    pub(crate) async fn progress_of(&self, ids: &[u64], upto: Option<Place>) -> Told {
        self.progress_part(&owners::rooms(&self.reach.picture()), ids, upto).await
    }

    /// What these rooms say, asked by this center itself.
    pub(crate) async fn progress_part(&self, rooms: &[NodeId], ids: &[u64], upto: Option<Place>) -> Told {
        let mut told = Told::default();
        for (room, answer) in self.reach.rooms.progress_of(rooms, &request(ids, upto)).await {
            match answer {
                Ok(answer) => {
                    told.rooms.push((room, in_order(ids, &answer.progress)));
                    if answer.behind {
                        told.behind.push(room);
                    }
                }
                Err(error) => {
                    tracing::debug!(%room, %error, "a room did not tell its progress");
                    told.missed.push(room);
                }
            }
        }
        told
    }
}

/// What a center answers, if it does its part.
async fn in_time<T>(center: NodeId, call: BoxFuture<'_, Result<T, PeerError>>) -> Option<T> {
    match timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(%center, %error, "a center's part of a broadcast is done from here");
        }
        Err(_) => tracing::debug!(%center, "a center's part of a broadcast is late, and done from here"),
    }
    None
}

fn request(ids: &[u64], upto: Option<Place>) -> ProgressRequest {
    let (app, epoch, head) = upto.map_or((0, 0, 0), |place| (place.app, place.epoch, place.head));
    ProgressRequest { ids: ids.to_vec(), app, epoch, head }
}

/// A room tells only of what it knows, in whatever order.
pub(super) fn in_order(ids: &[u64], told: &[Progress]) -> Vec<Progress> {
    let of = |id: &u64| {
        let known = told.iter().find(|progress| progress.id == *id).cloned();
        known.unwrap_or(Progress { id: *id, ..Progress::default() })
    };
    ids.iter().map(of).collect()
}
