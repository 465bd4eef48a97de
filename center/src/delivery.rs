//! Takes stored messages to the rooms, after the caller has its answer.
//!
//! Users are spread over lanes. A lane takes a batch of messages through at a time: looks all their users up, then
//! hands all messages to the rooms in the order of their numbers; so a user's messages keep their order without
//! anybody waiting for a single one. Nothing here has to succeed: what is dropped, slow or refused lies in its
//! inbox, and the saver's sweeper finds it.

use std::{future::Future, hash::BuildHasher as _, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use cluster::NodeId;
use flow::{BatchLimits, Batcher, FlowMetrics};
use futures::{StreamExt as _, stream::FuturesUnordered};
use peers::{PeerError, Registers, Rooms};
use proto::internal::{DeliverItem, Delivery as Outcome, LookUpResult, Presence};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use wire::id::Uid;

use crate::{
    config::DeliveryConfig,
    limits::{Budget, Held},
    metrics::{Delivered, Metrics},
};

/// A stored message on its way to its user.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) app: u32,
    pub(crate) uid: Uid,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) id: u64,
    pub(crate) accepted_ms: u64,
    pub(crate) payload: Bytes,
}

/// What a waiting message takes besides its payload: this struct, its user's name, its place in the queue.
const PARCEL_BYTES: usize = 256;

/// A parcel in a lane, with its share of the bytes that may wait.
struct Waiting {
    parcel: Parcel,
    _held: Held,
}

/// What the stage calls. The services are behind it, so that tests can stand in for them.
pub(crate) trait Carrier: Clone + Send + Sync + 'static {
    /// Where the user is.
    fn look_up(&self, app: u32, uid: &Uid) -> impl Future<Output = Result<LookUpResult, PeerError>> + Send;

    /// Hands a message to a room.
    fn deliver(
        &self,
        room: NodeId,
        item: DeliverItem,
        payload: Bytes,
    ) -> impl Future<Output = Result<Outcome, PeerError>> + Send;
}

/// The registers and rooms of the cluster.
#[derive(Clone)]
pub(crate) struct Carriers {
    pub(crate) registers: Registers,
    pub(crate) rooms: Rooms,
}

impl Carrier for Carriers {
    async fn look_up(&self, app: u32, uid: &Uid) -> Result<LookUpResult, PeerError> {
        self.registers.look_up(app, uid).await
    }

    async fn deliver(&self, room: NodeId, item: DeliverItem, payload: Bytes) -> Result<Outcome, PeerError> {
        self.rooms.deliver(room, item, payload).await
    }
}

/// The stage.
pub(crate) struct Delivery {
    lanes: Box<[Batcher<Waiting, (), ()>]>,
    hasher: foldhash::fast::FixedState,
    bytes: Budget,
    metrics: Metrics,
}

impl Delivery {
    /// Starts the lanes. Each is one task, which ends when `cancel` fires; the handles are for its owner to wait.
    pub(crate) fn spawn(
        limits: &DeliveryConfig,
        carrier: &impl Carrier,
        metrics: &Metrics,
        flow: &FlowMetrics,
        cancel: &CancellationToken,
    ) -> (Delivery, Vec<JoinHandle<()>>) {
        let bounds = BatchLimits {
            queue_items: limits.lane_items,
            batch_items: limits.lane_batch,
            // A second batch under way could overtake the first.
            in_flight: 1,
        };
        let (lanes, tasks) = (0..limits.lanes.max(1))
            .map(|_| {
                let lane = Arc::new(Lane {
                    carrier: carrier.clone(),
                    patience: limits.patience,
                    metrics: metrics.clone(),
                });
                Batcher::builder("center_delivery", bounds).metrics(flow).spawn(
                    cancel.clone(),
                    move |batch| {
                        let lane = Arc::clone(&lane);
                        async move {
                            let answers = vec![(); batch.len()];
                            lane.carry(batch).await;
                            Ok(answers)
                        }
                    },
                )
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let delivery = Delivery {
            lanes: lanes.into(),
            hasher: foldhash::fast::FixedState::default(),
            bytes: Budget::new("bytes in delivery", limits.queue_bytes),
            metrics: metrics.clone(),
        };
        (delivery, tasks)
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.bytes.held() == 0
    }

    /// Queues a message for its room. When the stage is full it is dropped here and counted; the sweeper has it.
    pub(crate) fn offer(&self, parcel: Parcel) {
        let bytes = parcel.payload.len();
        self.offer_share(parcel, bytes);
    }

    /// Likewise, when the payload is shared with others: `bytes` is this one's part of it.
    pub(crate) fn offer_share(&self, parcel: Parcel, bytes: usize) {
        let lane = self.hasher.hash_one((parcel.app, &parcel.uid)) as usize % self.lanes.len();
        let placed = match self.bytes.take(bytes + PARCEL_BYTES) {
            // Nobody waits for the reply.
            Ok(held) => self.lanes[lane].offer(Waiting { parcel, _held: held }).map(drop).is_ok(),
            Err(_) => false,
        };
        if !placed {
            self.metrics.delivered(Delivered::Full, 1);
        }
    }
}

struct Lane<C> {
    carrier: C,
    patience: Duration,
    metrics: Metrics,
}

impl<C: Carrier> Lane<C> {
    async fn carry(&self, mut batch: Vec<Waiting>) {
        // Callers of one user may have got their answers in another order than their numbers.
        batch.sort_unstable_by_key(|waiting| waiting.parcel.seq);
        let look_ups =
            batch.iter().map(|waiting| self.carrier.look_up(waiting.parcel.app, &waiting.parcel.uid));
        let places = within(self.patience, look_ups).await;
        let mut counts = [0u64; 6];
        let mut online = Vec::with_capacity(batch.len());
        for (Waiting { parcel, _held: held }, place) in batch.into_iter().zip(places) {
            match place {
                Some(Ok(place)) if place.presence == i32::from(Presence::Online) => {
                    online.push((parcel, held, place));
                }
                Some(Ok(place)) if place.presence == i32::from(Presence::Rebuilding) => {
                    counts[Delivered::Rebuilding as usize] += 1;
                }
                Some(Ok(_)) => counts[Delivered::Offline as usize] += 1,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a look-up failed; the sweeper delivers");
                    counts[Delivered::Failed as usize] += 1;
                }
                None => counts[Delivered::Failed as usize] += 1,
            }
        }
        let deliveries = online.iter().map(|(parcel, _, place)| {
            let item = DeliverItem {
                app: parcel.app,
                uid: parcel.uid.as_str().to_owned(),
                fence: place.fence,
                epoch: parcel.epoch,
                seq: parcel.seq,
                id: parcel.id,
                payload: None,
                accepted_ms: parcel.accepted_ms,
            };
            self.carrier.deliver(NodeId(place.room), item, parcel.payload.clone())
        });
        for outcome in within(self.patience, deliveries).await {
            let outcome = match outcome {
                Some(Ok(Outcome::Sent)) => Delivered::Sent,
                Some(Ok(Outcome::NotHere)) => Delivered::Moved,
                // A room sheds only transient messages.
                Some(Ok(Outcome::Shed)) | None => Delivered::Failed,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a delivery failed; the sweeper delivers");
                    Delivered::Failed
                }
            };
            counts[outcome as usize] += 1;
        }
        for outcome in Delivered::ALL {
            self.metrics.delivered(outcome, counts[outcome as usize]);
        }
    }
}

/// Runs all of these at once, in this task, begun in their order. What is not done in time is left out.
async fn within<F: Future>(patience: Duration, futures: impl Iterator<Item = F>) -> Vec<Option<F::Output>> {
    let numbered = futures.enumerate().map(|(index, future)| async move { (index, future.await) });
    let mut running: FuturesUnordered<_> = numbered.collect();
    let mut results: Vec<_> = std::iter::repeat_with(|| None).take(running.len()).collect();
    let deadline = Instant::now() + patience;
    let mut sleep = pin!(tokio::time::sleep_until(deadline));
    while !running.is_empty() {
        tokio::select! {
            biased;
            Some((index, result)) = running.next() => results[index] = Some(result),
            () = &mut sleep => break,
        }
    }
    results
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
