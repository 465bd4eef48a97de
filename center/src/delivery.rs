//! Takes stored messages to the rooms, after the caller has its answer.
//!
//! Users are spread over lanes. A lane looks up a batch of users at a time and then hands their messages to the rooms
//! in the order of their numbers; so a user's messages keep their order without anybody waiting for a single one.
//! A register that is slow delays its own users and not the lane: the batch goes on without them after a moment.
//! Nothing here has to succeed: what is dropped, slow or refused lies in its inbox, and the saver's sweeper finds it.

use std::{future::Future, hash::BuildHasher as _};

use bytes::Bytes;
use cluster::NodeId;
use futures::{
    StreamExt as _,
    stream::{FuturesUnordered, SelectAll},
};
use peers::{PeerError, Registers, Rooms};
use proto::internal::{DeliverItem, Delivery as Outcome, LookUpResult, Presence};
use tokio::{
    pin,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
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
    held: Held,
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
    lanes: Box<[mpsc::Sender<Waiting>]>,
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
        cancel: &CancellationToken,
    ) -> (Delivery, Vec<JoinHandle<()>>) {
        let (lanes, tasks) = (0..limits.lanes.max(1))
            .map(|_| {
                let (lane, queue) = mpsc::channel(limits.lane_items.max(1));
                let (carrier, metrics) = (carrier.clone(), metrics.clone());
                let driver = Lane { carrier, metrics, limits: limits.clone(), queue };
                (lane, tokio::spawn(driver.run(cancel.clone())))
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
            Ok(held) => self.lanes[lane].try_send(Waiting { parcel, held }).is_ok(),
            Err(_) => false,
        };
        if !placed {
            self.metrics.delivered(Delivered::Full);
        }
    }
}

/// The task of one lane.
struct Lane<C> {
    carrier: C,
    metrics: Metrics,
    limits: DeliveryConfig,
    queue: mpsc::Receiver<Waiting>,
}

impl<C: Carrier> Lane<C> {
    async fn run(self, cancel: CancellationToken) {
        let Lane { carrier, metrics, limits, mut queue } = self;
        let (carrier, metrics) = (&carrier, &metrics);
        let look_up = |waiting: Waiting| async move {
            let place = carrier.look_up(waiting.parcel.app, &waiting.parcel.uid).await;
            (waiting, place)
        };
        let deliver = |Online { waiting: Waiting { parcel, held }, place }: Online| async move {
            let done = carrier.deliver(NodeId(place.room), item(&parcel, place.fence), parcel.payload).await;
            drop(held);
            done
        };
        let mut batch = Vec::with_capacity(limits.lane_batch);
        // The look-ups of the present batch, and the users among them that were found online.
        let mut looking = FuturesUnordered::new();
        let mut online: Vec<Online> = Vec::with_capacity(limits.lane_batch);
        // Look-ups of earlier batches that took too long; deliveries that are under way.
        let mut late = SelectAll::new();
        let mut delivering = FuturesUnordered::new();
        let mut in_hand = 0;
        let cancelled = cancel.cancelled();
        let patience = sleep_until(Instant::now());
        pin!(cancelled, patience);
        loop {
            if looking.is_empty() && !online.is_empty() {
                // Callers of one user may have got their answers in another order than their numbers.
                online.sort_unstable_by_key(|online| online.waiting.parcel.seq);
                // They are first polled, and so enter the rooms' queues, in this order.
                delivering.extend(online.drain(..).map(deliver));
            }
            tokio::select! {
                biased;
                () = &mut cancelled => break,
                Some(done) = delivering.next(), if !delivering.is_empty() => {
                    in_hand -= 1;
                    metrics.delivered(outcome(done));
                }
                Some((waiting, place)) = looking.next(), if !looking.is_empty() => match found(place) {
                    Ok(place) => online.push(Online { waiting, place }),
                    Err(end) => {
                        in_hand -= 1;
                        metrics.delivered(end);
                    }
                },
                Some((waiting, place)) = late.next(), if !late.is_empty() => match found(place) {
                    Ok(place) => delivering.push(deliver(Online { waiting, place })),
                    Err(end) => {
                        in_hand -= 1;
                        metrics.delivered(end);
                    }
                },
                () = &mut patience, if !looking.is_empty() => late.push(std::mem::take(&mut looking)),
                taken = queue.recv_many(&mut batch, limits.lane_batch), if looking.is_empty() && in_hand < limits.lane_items => {
                    if taken == 0 {
                        break;
                    }
                    in_hand += taken;
                    looking.extend(batch.drain(..).map(look_up));
                    patience.as_mut().reset(Instant::now() + limits.patience);
                }
            }
        }
    }
}

/// A message and where its user is.
struct Online {
    waiting: Waiting,
    place: LookUpResult,
}

fn item(parcel: &Parcel, fence: u64) -> DeliverItem {
    DeliverItem {
        app: parcel.app,
        uid: parcel.uid.as_str().to_owned(),
        fence,
        epoch: parcel.epoch,
        seq: parcel.seq,
        id: parcel.id,
        payload: None,
        accepted_ms: parcel.accepted_ms,
        ..Default::default()
    }
}

/// Where to deliver, or what became of the message if nowhere.
fn found(place: Result<LookUpResult, PeerError>) -> Result<LookUpResult, Delivered> {
    match place {
        Ok(place) => match place.presence() {
            Presence::Online => Ok(place),
            Presence::Offline => Err(Delivered::Offline),
            Presence::Rebuilding => Err(Delivered::Rebuilding),
        },
        Err(error) => {
            tracing::debug!(%error, "a look-up failed; the sweeper delivers");
            Err(Delivered::Failed)
        }
    }
}

fn outcome(done: Result<Outcome, PeerError>) -> Delivered {
    match done {
        Ok(Outcome::Sent) => Delivered::Sent,
        Ok(Outcome::NotHere) => Delivered::Moved,
        // A room sheds only transient messages.
        Ok(Outcome::Shed | Outcome::Away) => Delivered::Failed,
        Err(error) => {
            tracing::debug!(%error, "a delivery failed; the sweeper delivers");
            Delivered::Failed
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
