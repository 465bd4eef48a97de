//! The task of one lane: look up, and deliver in the order of the numbers.

use cluster::NodeId;
use futures::{
    StreamExt as _,
    stream::{FuturesUnordered, SelectAll},
};
use peers::PeerError;
use proto::internal::{DeliverItem, Delivery as Outcome, LookUpResult, Presence};
use tokio::{
    pin,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Carrier, Parcel, Recalled, Waiting};
use crate::{
    config::DeliveryConfig,
    metrics::{Delivered, Metrics},
};

/// The task of one lane.
pub(super) struct Lane<C> {
    pub(super) carrier: C,
    pub(super) metrics: Metrics,
    pub(super) limits: DeliveryConfig,
    pub(super) urgent: mpsc::Receiver<Waiting>,
    pub(super) queue: mpsc::Receiver<Waiting>,
    pub(super) recalled: Recalled,
}

impl<C: Carrier> Lane<C> {
    pub(super) async fn run(self, cancel: CancellationToken) {
        let Lane { carrier, metrics, limits, mut urgent, mut queue, recalled } = self;
        let (carrier, metrics) = (&carrier, &metrics);
        let look_up = |waiting: Waiting| async move {
            let Parcel { app, uid, urgent, .. } = &waiting.parcel;
            let place = carrier.look_up(*app, uid, *urgent).await;
            (waiting, place)
        };
        let deliver = |Online { waiting: Waiting { parcel, held }, place }: Online| async move {
            let done = carrier.deliver(NodeId(place.room), item(&parcel, place.fence), parcel.payload).await;
            drop(held);
            done
        };
        let mut batch = Vec::with_capacity(limits.lane_batch);
        let mut urgent_batch = Vec::new();
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
            batch.append(&mut urgent_batch);
            if !batch.is_empty() {
                recalled.drop_from(&mut batch, metrics);
                in_hand += batch.len();
                looking.extend(batch.drain(..).map(look_up));
                patience.as_mut().reset(Instant::now() + limits.patience);
                continue;
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
                // What is not urgent never takes the last places in hand.
                taken = urgent.recv_many(&mut urgent_batch, limits.lane_batch), if looking.is_empty() && in_hand < limits.lane_items + limits.lane_batch => {
                    if taken == 0 {
                        break;
                    }
                }
                taken = queue.recv_many(&mut batch, limits.lane_batch), if looking.is_empty() && in_hand < limits.lane_items => {
                    if taken == 0 {
                        break;
                    }
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
        collapse_key: parcel.collapse_key.clone().into_string(),
        urgent: parcel.urgent,
    }
}

/// Where to deliver, or what became of the message if nowhere.
pub(super) fn found(place: Result<LookUpResult, PeerError>) -> Result<LookUpResult, Delivered> {
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

pub(super) fn outcome(done: Result<Outcome, PeerError>) -> Delivered {
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
