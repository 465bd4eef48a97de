//! Tells the rooms of broadcasts, after the caller has its answer.

use std::time::Duration;

use flow::{AtBound, FlowMetrics, Pool, PoolLimits};
use peers::Rooms;
use proto::internal::BroadcastNotice;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Broadcasts being told at once. One takes a round trip to the slowest room; two keep the rooms busy, and more
/// would only make them work on everything at the same time.
const WORKERS: usize = 2;

/// Broadcasts that wait. With the largest payloads 16 MiB.
const QUEUE: usize = 256;

/// The stage. What it sheds the rooms find by themselves, when they next compare the log's head.
#[derive(Clone)]
pub(crate) struct Notices {
    pool: Pool<BroadcastNotice>,
    metrics: Metrics,
}

impl Notices {
    pub(crate) fn spawn(
        rooms: Rooms,
        metrics: &Metrics,
        flow: &FlowMetrics,
        cancel: CancellationToken,
    ) -> (Notices, JoinHandle<Vec<BroadcastNotice>>) {
        let limits = PoolLimits { workers: WORKERS, queue: QUEUE };
        let at_bound = AtBound::Shed { retry_after: Duration::from_secs(10) };
        let (pool, owner) = Pool::spawn("center_broadcasts", limits, at_bound, flow, cancel, move |notice| {
            let rooms = rooms.clone();
            async move { tell(&rooms, notice).await }
        });
        (Notices { pool, metrics: metrics.clone() }, owner)
    }

    pub(crate) fn offer(&self, notice: BroadcastNotice) {
        if self.pool.offer(notice).is_err() {
            self.metrics.notices_shed.inc();
        }
    }
}

async fn tell(rooms: &Rooms, notice: BroadcastNotice) {
    let (app, id) = (notice.app, notice.id);
    for (room, error) in rooms.broadcast(notice).await.missed {
        // Not lost: the room compares the log's head with what it has every few seconds.
        tracing::warn!(app, id, %room, %error, "a room was not told of a broadcast at once");
    }
}
