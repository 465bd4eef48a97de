//! What other services want of the room, for all its threads.

use std::sync::{Arc, Mutex, PoisonError};

use audience::Slice;
use futures::future::{BoxFuture, try_join_all};
use proto::internal as rpc;
use tokio::sync::oneshot;
use wire::id::{AppId, Cursor};

use crate::{
    backend::{Backend, Services, broadcast_recall},
    error::RoomError,
    event_loop::{Order, Thread},
    exchange::{Delivery, DeliveryItem, DrainOrder, KickOrder, Meant, Progress},
};

/// Kicks and recalls of one order. A word to a device takes about 7 µs, so these are 2 ms, and others have their turn between two.
const PART: usize = 256;

/// Gives orders to all threads and puts their answers together.
pub(crate) struct Orders<S> {
    backend: Arc<Backend<S>>,
    threads: Vec<Thread>,
    drain: Mutex<DrainOrder>,
    on_drain: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl<S: Services> Orders<S> {
    pub(crate) fn new(
        backend: Arc<Backend<S>>,
        threads: Vec<Thread>,
        drain: DrainOrder,
        on_drain: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { backend, threads, drain: Mutex::new(drain), on_drain: Box::new(on_drain) }
    }

    /// Another pace for a drain that has not begun.
    pub(crate) fn set_drain(&self, drain: DrainOrder) {
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner) = drain;
    }

    /// Asks every thread the same.
    async fn all<T>(&self, order: impl Fn(oneshot::Sender<T>) -> Order) -> Result<Vec<T>, RoomError> {
        let ask = |thread: &Thread| {
            let (reply, answer) = oneshot::channel();
            let (thread, order) = (thread.clone(), order(reply));
            async move {
                thread.send(order).await?;
                answer.await.map_err(|_| RoomError::Ending)
            }
        };
        try_join_all(self.threads.iter().map(ask)).await
    }

    /// Delivers a batch; one result for each item.
    pub(crate) async fn deliver(&self, items: Vec<DeliveryItem>) -> Result<Vec<Delivery>, RoomError> {
        self.backend.metrics.deliveries.inc_by(items.len() as u64);
        let items: Arc<[DeliveryItem]> = items.into();
        let mut results = self.try_deliver(&items).await?;
        // Whoever is not here may be about to be: the register knows a session before its thread does.
        let mut again = Vec::new();
        for (place, item) in items.iter().enumerate() {
            if results[place] != Delivery::NotHere {
                continue;
            }
            if item.seq > 0 && self.backend.pending.note_message(item.app, &item.uid) {
                results[place] = Delivery::Sent;
            } else if item.fence.is_some() {
                // Perhaps the bind was completed between the two looks.
                again.push(place);
            }
        }
        if !again.is_empty() {
            let rest: Arc<[DeliveryItem]> = again.iter().map(|place| items[*place].clone()).collect();
            for (place, result) in again.into_iter().zip(self.try_deliver(&rest).await?) {
                results[place] = result;
            }
        }
        let mut missed = 0;
        for (item, _) in items.iter().zip(&results).filter(|(_, result)| **result == Delivery::NotHere) {
            missed += 1;
            // Whoever sent it believes that the session is here, and the register does; nobody holds it.
            if let Some(fence) = item.fence {
                self.backend.late.unbind(rpc::UnbindItem {
                    app: item.app.0,
                    uid: item.uid.as_str().to_owned(),
                    fence: fence.0,
                    ..rpc::UnbindItem::default()
                });
            }
        }
        self.backend.metrics.deliveries_not_here.inc_by(missed);
        Ok(results)
    }

    async fn try_deliver(&self, items: &Arc<[DeliveryItem]>) -> Result<Vec<Delivery>, RoomError> {
        let mut answers = self.all(|reply| Order::Deliver(Arc::clone(items), reply)).await?.into_iter();
        let mut results = answers.next().unwrap_or_else(|| vec![Delivery::NotHere; items.len()]);
        for answer in answers {
            for (result, other) in results.iter_mut().zip(answer) {
                if *result == Delivery::NotHere {
                    *result = other;
                }
            }
        }
        Ok(results)
    }

    /// Hands a broadcast to every thread.
    pub(crate) async fn broadcast(&self, notice: rpc::BroadcastNotice) -> Result<(), RoomError> {
        self.backend.metrics.notices.inc();
        self.backend.broadcasts.notice(notice).await.map_err(|error| {
            self.backend.metrics.notices_shed.inc();
            error.into()
        })
    }

    /// Tells devices that a message was taken back; how many were told. No uids = a broadcast.
    pub(crate) async fn recall(&self, app: AppId, id: u64, uids: Vec<String>) -> Result<u64, RoomError> {
        if uids.is_empty() {
            let frame = broadcast_recall(app, id);
            self.backend.broadcasts.cache.recall(app, id);
            let told = self.all(|reply| Order::RecallBroadcast(app, id, frame.clone(), reply)).await?;
            let told: Option<u64> = told.into_iter().sum();
            return told.ok_or(RoomError::Busy("too many recalls are under way"));
        }
        let mut told = 0;
        for part in uids.chunks(PART) {
            let uids: Arc<[String]> = part.into();
            told += self
                .all(|reply| Order::RecallUsers(app, id, Arc::clone(&uids), reply))
                .await?
                .into_iter()
                .sum::<u64>();
        }
        Ok(told)
    }

    /// Ends bindings; for each order whether there was one.
    pub(crate) async fn kick(&self, orders: Vec<KickOrder>) -> Result<Vec<bool>, RoomError> {
        // First the note, then the threads: a bind that is completed in between is seen by one of the two.
        let mut kicked: Vec<bool> = orders
            .iter()
            .map(|order| self.backend.pending.note_kick(order.app, &order.uid, order.fence, order.why))
            .collect();
        for (part, kicked) in orders.chunks(PART).zip(kicked.chunks_mut(PART)) {
            let orders: Arc<[KickOrder]> = part.into();
            for answer in self.all(|reply| Order::Kick(Arc::clone(&orders), reply)).await? {
                for (kicked, here) in kicked.iter_mut().zip(answer) {
                    *kicked |= here;
                }
            }
        }
        Ok(kicked)
    }

    /// What was done for broadcasts, and whether a thread has not come as far as a place in an app's log.
    pub(crate) async fn progress(
        &self,
        ids: Vec<u64>,
        place: Option<(AppId, Cursor)>,
    ) -> Result<(Vec<Progress>, bool), RoomError> {
        let ids: Arc<[u64]> = ids.into();
        let mut sums = vec![Progress::default(); ids.len()];
        let mut behind = false;
        for (answer, late) in self.all(|reply| Order::Progress(Arc::clone(&ids), place, reply)).await? {
            behind |= late;
            for (sum, part) in sums.iter_mut().zip(answer) {
                sum.add(&part);
            }
        }
        Ok((sums, behind))
    }

    /// How many bindings an audience has now; of a part of the ring, its share of them.
    pub(crate) async fn count(&self, app: AppId, meant: Meant, slice: Slice) -> Result<u64, RoomError> {
        let meant = Arc::new(meant);
        let counts = self.all(|reply| Order::Count(app, Arc::clone(&meant), reply)).await?;
        let all: u64 = counts.into_iter().sum();
        Ok(if slice.is_whole() { all } else { (all as f64 * slice.share()).round() as u64 })
    }

    /// Stops accepting and begins to send the devices away.
    pub(crate) async fn start_drain(&self) -> Result<(), RoomError> {
        (self.on_drain)().await;
        let drain = *self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in &self.threads {
            thread.send(Order::Drain(drain)).await?;
        }
        Ok(())
    }

    pub(crate) fn threads(&self) -> &[Thread] {
        &self.threads
    }

    pub(crate) fn backend(&self) -> &Backend<S> {
        &self.backend
    }
}
