//! Takes a message to many users at once: looked up in a few large calls, delivered to those who are online.

use bytes::Bytes;
use cluster::NodeId;
use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::internal::{DeliverItem, LookUpResult, Position};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::id::Uid;

use super::{
    Carrier, Recalled,
    lane::{found, outcome},
};
use crate::{
    limits::Held,
    metrics::{Delivered, Metrics},
};

/// Crowds that are carried at once: one is looked up while others are delivered. What is urgent has one place more.
pub(crate) const AT_ONCE: usize = 4;

/// Crowds that wait for that, of each priority.
pub(crate) const WAITING: usize = 8;

/// A message that is stored for these users, and where in their inboxes. Whoever makes it keeps it to a few thousand.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) app: u32,
    pub(crate) id: u64,
    pub(crate) accepted_ms: u64,
    pub(crate) payload: Bytes,
    pub(crate) collapse_key: Box<str>,
    pub(crate) urgent: bool,
    pub(crate) users: Vec<(Uid, Position)>,
}

/// A crowd in the queue, and what says that the stage is not idle.
pub(super) struct Gathered {
    pub(super) crowd: Crowd,
    pub(super) held: Held,
}

/// The task that carries crowds.
pub(super) struct Carry<C> {
    pub(super) carrier: C,
    pub(super) metrics: Metrics,
    pub(super) urgent: mpsc::Receiver<Gathered>,
    pub(super) queue: mpsc::Receiver<Gathered>,
    pub(super) recalled: Recalled,
}

impl<C: Carrier> Carry<C> {
    pub(super) async fn run(self, cancel: CancellationToken) {
        let Carry { carrier, metrics, mut urgent, mut queue, recalled } = self;
        let mut under_way = FuturesUnordered::new();
        loop {
            let taken = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                taken = urgent.recv(), if under_way.len() <= AT_ONCE => taken,
                taken = queue.recv(), if under_way.len() < AT_ONCE => taken,
            };
            let Some(Gathered { crowd, held }) = taken else { break };
            if recalled.has(crowd.id) {
                metrics.delivered_many(Delivered::Recalled, crowd.users.len());
                continue;
            }
            let (carrier, metrics) = (&carrier, &metrics);
            under_way.push(async move {
                carry(carrier, metrics, crowd).await;
                drop(held);
            });
        }
    }
}

async fn carry(carrier: &impl Carrier, metrics: &Metrics, crowd: Crowd) {
    let uids: Vec<&str> = crowd.users.iter().map(|(uid, _)| uid.as_str()).collect();
    let places = carrier.look_up_list(crowd.app, &uids).await;
    let mut online = Vec::new();
    let mut ends = Ends::default();
    for ((uid, position), place) in crowd.users.iter().zip(places) {
        match found(place) {
            Ok(place) => online.push((NodeId(place.room), item(&crowd, uid, *position, &place))),
            Err(end) => ends.add(end),
        }
    }
    for done in carrier.deliver_list(online, crowd.payload.clone()).await {
        ends.add(outcome(done));
    }
    ends.tell(metrics);
}

/// Counted here first: a crowd comes to very few different ends.
#[derive(Default)]
struct Ends(Vec<(Delivered, usize)>);

impl Ends {
    fn add(&mut self, end: Delivered) {
        match self.0.iter_mut().find(|(known, _)| *known == end) {
            Some((_, count)) => *count += 1,
            None => self.0.push((end, 1)),
        }
    }

    fn tell(self, metrics: &Metrics) {
        for (end, count) in self.0 {
            metrics.delivered_many(end, count);
        }
    }
}

fn item(crowd: &Crowd, uid: &Uid, position: Position, place: &LookUpResult) -> DeliverItem {
    DeliverItem {
        app: crowd.app,
        uid: uid.as_str().to_owned(),
        fence: place.fence,
        epoch: position.epoch,
        seq: position.seq,
        id: crowd.id,
        payload: None,
        accepted_ms: crowd.accepted_ms,
        collapse_key: crowd.collapse_key.clone().into_string(),
        urgent: crowd.urgent,
    }
}
