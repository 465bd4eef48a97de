//! Tells rooms that a session of theirs was replaced.

use std::sync::Arc;

use cluster::{Cluster, NodeId, NodeState, Picture, Role};
use flow::{AtBound, FlowMetrics, Pool, PoolLimits};
use peers::{PeerError, Rooms};
use proto::internal::{KickItem, KickReason};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{config::KicksConfig, homes::RoomLife, metrics::RegisterMetrics, shard::Displaced};

/// A kick on its way.
#[derive(Debug)]
pub(crate) struct Kick {
    app: u32,
    uid: String,
    displaced: Displaced,
}

/// The kicks that are under way or wait. The binds that cause them do not wait for them.
#[derive(Clone)]
pub(crate) struct Kicks {
    pool: Pool<Kick>,
    metrics: RegisterMetrics,
}

impl Kicks {
    pub(crate) fn spawn(
        config: &KicksConfig,
        rooms: Rooms,
        cluster: Cluster,
        flow: &FlowMetrics,
        metrics: RegisterMetrics,
        cancel: CancellationToken,
    ) -> (Kicks, JoinHandle<Vec<Kick>>) {
        let limits = PoolLimits { workers: config.workers, queue: config.queue };
        let counted = metrics.clone();
        // Refused, not waited for: a room that does not answer must not hold up binds in other rooms.
        let at_bound = AtBound::Spill;
        let (pool, task) =
            Pool::spawn("register_kicks", limits, at_bound, flow, cancel, move |kick: Kick| {
                let (rooms, metrics) = (rooms.clone(), counted.clone());
                let gone = gone(cluster.picture(), kick.displaced.life);
                async move {
                    tokio::select! {
                        () = send(&rooms, &metrics, kick) => {}
                        // A room that is gone has no bindings left; to try on would only hold up the kicks behind.
                        () = gone => {}
                    }
                }
            });
        (Kicks { pool, metrics }, task)
    }

    /// Kicks the displaced session some time soon.
    pub(crate) fn kick(&self, app: u32, uid: &str, displaced: Displaced) {
        self.metrics.replaced.inc();
        if self.pool.offer(Kick { app, uid: uid.to_owned(), displaced }).is_err() {
            self.metrics.kicks_dropped.inc();
        }
    }
}

async fn send(rooms: &Rooms, metrics: &RegisterMetrics, kick: Kick) {
    let Kick { app, uid, displaced } = kick;
    let item = KickItem { app, uid, fence: displaced.fence, reason: KickReason::Replaced.into() };
    match rooms.kick(NodeId(displaced.life.room), item).await {
        // A room that is gone has no bindings left.
        Ok(_) | Err(PeerError::NoNode(_)) => {}
        Err(error) => {
            metrics.kicks_failed.inc();
            tracing::debug!(room = displaced.life.room, %error, "a replaced session was not kicked");
        }
    }
}

/// Ends when the room's life is over, or does not answer.
async fn gone(mut pictures: watch::Receiver<Arc<Picture>>, life: RoomLife) {
    let gone = |picture: &Arc<Picture>| {
        picture
            .node(Role::Room, NodeId(life.room))
            .is_none_or(|node| node.state == NodeState::Down || node.life() > life.incarnation)
    };
    if pictures.wait_for(gone).await.is_err() {
        // Discovery has gone away and says nothing of anybody any more.
        std::future::pending::<()>().await;
    }
}
