//! Takes stored messages to the rooms, after the caller has its answer.
//!
//! Users are spread over lanes. A lane looks up a batch of users at a time and then hands their messages to the rooms
//! in the order of their numbers; so a user's messages keep their order without anybody waiting for a single one.
//! A register that is slow delays its own users and not the lane: the batch goes on without them after a moment.
//! What is urgent waits in a queue of its own in each lane, which is emptied first. Nothing here has to succeed: what is
//! dropped, slow or refused lies in its inbox, and the saver's sweeper finds it.

pub(crate) mod crowd;
mod lane;
mod recalled;

use std::{future::Future, hash::BuildHasher as _, time::Duration};

use bytes::Bytes;
use cluster::NodeId;
use peers::{PeerError, Registers, Rooms};
use proto::internal::{DeliverItem, Delivery as Outcome, LookUpResult};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use wire::id::Uid;

pub(crate) use self::{crowd::Crowd, recalled::Recalled};
use self::{
    crowd::{Carry, Gathered},
    lane::Lane,
};
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
    pub(crate) collapse_key: Box<str>,
    pub(crate) urgent: bool,
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
    fn look_up(
        &self,
        app: u32,
        uid: &Uid,
        urgent: bool,
    ) -> impl Future<Output = Result<LookUpResult, PeerError>> + Send;

    /// Where each of many users is.
    fn look_up_list(
        &self,
        app: u32,
        uids: &[&str],
    ) -> impl Future<Output = Vec<Result<LookUpResult, PeerError>>> + Send;

    /// Hands one message to the rooms of many users.
    fn deliver_list(
        &self,
        items: Vec<(NodeId, DeliverItem)>,
        payload: Bytes,
    ) -> impl Future<Output = Vec<Result<Outcome, PeerError>>> + Send;

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
    async fn look_up(&self, app: u32, uid: &Uid, urgent: bool) -> Result<LookUpResult, PeerError> {
        match urgent {
            true => self.registers.look_up_urgent(app, uid).await,
            false => self.registers.look_up(app, uid).await,
        }
    }

    async fn look_up_list(&self, app: u32, uids: &[&str]) -> Vec<Result<LookUpResult, PeerError>> {
        self.registers.look_up_list(app, uids).await
    }

    async fn deliver_list(
        &self,
        items: Vec<(NodeId, DeliverItem)>,
        payload: Bytes,
    ) -> Vec<Result<Outcome, PeerError>> {
        self.rooms.deliver_list(items, payload).await
    }

    async fn deliver(&self, room: NodeId, item: DeliverItem, payload: Bytes) -> Result<Outcome, PeerError> {
        self.rooms.deliver(room, item, payload).await
    }
}

/// The stage.
pub(crate) struct Delivery {
    /// For each lane what is urgent, and the rest.
    lanes: Box<[[mpsc::Sender<Waiting>; 2]]>,
    hasher: foldhash::fast::FixedState,
    /// Of what is urgent, and of the rest: so that the rest never fills the stage for all.
    bytes: [Budget; 2],
    /// As above; users of crowds are not counted among those bytes, but bounded by the number of crowds.
    crowds: [mpsc::Sender<Gathered>; 2],
    gathered: Budget,
    recalled: Recalled,
    metrics: Metrics,
}

/// A list waits so long for the one before it: as long as a register that is healthy takes for thousands of times as much.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that what is urgent may have waiting besides the others: one part of so many.
pub(crate) const URGENT_PART: usize = 4;

impl Delivery {
    /// Starts the lanes. Each is one task, which ends when `cancel` fires; the handles are for its owner to wait.
    pub(crate) fn spawn(
        limits: &DeliveryConfig,
        carrier: &impl Carrier,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> (Delivery, Vec<JoinHandle<()>>) {
        let recalled = Recalled::default();
        let (lanes, mut tasks) = (0..limits.lanes.max(1))
            .map(|_| {
                let (urgent_lane, urgent) = mpsc::channel(limits.lane_items.max(1));
                let (lane, queue) = mpsc::channel(limits.lane_items.max(1));
                let (carrier, metrics, recalled) = (carrier.clone(), metrics.clone(), recalled.clone());
                let driver = Lane { carrier, metrics, limits: limits.clone(), urgent, queue, recalled };
                ([urgent_lane, lane], tokio::spawn(driver.run(cancel.clone())))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let (urgent_crowds, urgent) = mpsc::channel(crowd::WAITING);
        let (crowds, queue) = mpsc::channel(crowd::WAITING);
        let (taker, counts, known) = (carrier.clone(), metrics.clone(), recalled.clone());
        let carry = Carry { carrier: taker, metrics: counts, urgent, queue, recalled: known };
        tasks.push(tokio::spawn(carry.run(cancel.clone())));
        let budget = |bytes| Budget::new("bytes in delivery", bytes);
        let delivery = Delivery {
            lanes: lanes.into(),
            hasher: foldhash::fast::FixedState::default(),
            bytes: [budget(limits.queue_bytes / URGENT_PART), budget(limits.queue_bytes)],
            crowds: [urgent_crowds, crowds],
            gathered: Budget::new("crowds in delivery", usize::MAX),
            recalled,
            metrics: metrics.clone(),
        };
        (delivery, tasks)
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.gathered.held() == 0 && self.bytes.iter().all(|bytes| bytes.held() == 0)
    }

    /// What was taken back: of it nothing that waits goes anywhere.
    pub(crate) fn recalled(&self) -> Recalled {
        self.recalled.clone()
    }

    /// Queues a message for many users. When the stage stays full for a moment they are left to the sweeper, and counted.
    pub(crate) async fn gather(&self, crowd: Crowd) {
        let users = crowd.users.len();
        let queue = &self.crowds[usize::from(!crowd.urgent)];
        let placed = match self.gathered.take(1) {
            Ok(held) => queue.send_timeout(Gathered { crowd, held }, PATIENCE).await.is_ok(),
            Err(_) => false,
        };
        if !placed {
            self.metrics.delivered_many(Delivered::Full, users);
        }
    }

    /// Queues a message for its room. When the stage is full it is dropped here and counted; the sweeper has it.
    pub(crate) fn offer(&self, parcel: Parcel) {
        let bytes = parcel.payload.len();
        self.offer_share(parcel, bytes);
    }

    /// Likewise, when the payload is shared with others: `bytes` is this one's part of it.
    pub(crate) fn offer_share(&self, parcel: Parcel, bytes: usize) {
        let lane = self.hasher.hash_one((parcel.app, &parcel.uid)) as usize % self.lanes.len();
        let queue = usize::from(!parcel.urgent);
        let placed = match self.bytes[queue].take(bytes + PARCEL_BYTES) {
            Ok(held) => self.lanes[lane][queue].try_send(Waiting { parcel, held }).is_ok(),
            Err(_) => false,
        };
        if !placed {
            self.metrics.delivered(Delivered::Full);
        }
    }
}

#[cfg(test)]
mod tests;
