//! Keeps what rooms have sent in the archive, so that a room that goes does not take the count along.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster::{NodeId, Role};
use futures::future::join_all;
use hashbrown::{HashMap, HashSet};
use proto::internal::{Part, ProgressRequest};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::reach::Reach;

/// Rooms are asked so often.
const EVERY: Duration = Duration::from_secs(1);
/// A part that has not changed for so long is not followed any more; the next slice begins anew.
const QUIET: Duration = Duration::from_secs(15);
/// Broadcasts followed at once; a further one keeps no count of rooms that go. A hundred bytes and some for each room.
const FOLLOWED_MAX: usize = 1_024;

/// The parts that this center is responsible for. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Follow {
    parts: Arc<Mutex<HashMap<u64, Followed>>>,
}

struct Followed {
    app: u32,
    /// What each room had sent when it was last kept, and when that was new.
    rooms: HashMap<NodeId, Kept>,
}

#[derive(Clone, Copy)]
struct Kept {
    life: u64,
    sent: u64,
    changed: Instant,
}

impl Follow {
    /// Rooms are being told of a broadcast: their counts will change.
    pub(crate) fn note(&self, app: u32, id: u64, rooms: &[NodeId]) {
        let mut parts = self.lock();
        if parts.len() >= FOLLOWED_MAX && !parts.contains_key(&id) {
            return;
        }
        let followed = parts.entry(id).or_insert_with(|| Followed { app, rooms: HashMap::new() });
        let changed = Instant::now();
        for room in rooms {
            followed.rooms.entry(*room).or_insert(Kept { life: 0, sent: 0, changed }).changed = changed;
        }
    }

    /// Asks and keeps, until `cancel`.
    pub(crate) async fn run(self, reach: Reach, cancel: CancellationToken) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let round = async {
            loop {
                tick.tick().await;
                self.round(&reach).await;
            }
        };
        cancel.run_until_cancelled(round).await;
    }

    async fn round(&self, reach: &Reach) {
        let mut asked = HashMap::<NodeId, Vec<u64>>::new();
        for (id, followed) in self.lock().iter() {
            for room in followed.rooms.keys() {
                asked.entry(*room).or_default().push(*id);
            }
        }
        let calls = asked.into_iter().map(|(room, ids)| async move {
            let request = ProgressRequest { ids, ..Default::default() };
            let told = reach.rooms.progress_of(&[room], &request).await;
            told.into_iter().find_map(|(_, answer)| Some((room, answer.ok()?.progress)))
        });
        let told: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        let picture = reach.picture();
        let mut parts = Vec::new();
        {
            let (mut followed, now) = (self.lock(), Instant::now());
            for (room, progress) in told {
                // A room that began another life between its answer and now has its old count kept under the new one: the
                // greatest of a life stays, and it is told again in a second.
                let Some(life) = picture.node(Role::Room, room).map(|node| node.life()) else { continue };
                for one in progress {
                    let Some(of) = followed.get_mut(&one.id) else { continue };
                    let Some(kept) = of.rooms.get_mut(&room) else { continue };
                    if (kept.life, kept.sent) != (life, one.sent) {
                        *kept = Kept { life, sent: one.sent, changed: now };
                        let part =
                            Part { app: of.app, id: one.id, room: room.0, incarnation: life, sent: one.sent };
                        parts.push(part);
                    }
                }
            }
            let rooms: HashSet<_> = picture.of(Role::Room).map(|room| room.id).collect();
            followed.retain(|_, of| {
                of.rooms.retain(|room, kept| rooms.contains(room) && now - kept.changed < QUIET);
                !of.rooms.is_empty()
            });
        }
        if parts.is_empty() {
            return;
        }
        if let Err(error) = reach.savers.put_parts(parts.clone()).await {
            reach.metrics.job_parts_unkept.inc();
            let mut followed = self.lock();
            for part in parts {
                let rooms = followed.get_mut(&part.id).map(|of| &mut of.rooms);
                if let Some(kept) = rooms.and_then(|rooms| rooms.get_mut(&NodeId(part.room))) {
                    // As if it were news, so that the next round tells it again.
                    kept.life = 0;
                }
            }
            tracing::debug!(%error, "what rooms have sent could not be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Followed>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
