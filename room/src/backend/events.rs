//! Online and offline events to the coordinator, in the order in which they happen.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::mpsc;

use super::{Backend, Services, inboxes::persist};
use crate::metrics::RoomMetrics;

/// Events under way; the client packs them into batches and keeps their order.
const UNDER_WAY: usize = 1_024;

/// Takes events without waiting. At the bound an event is shed and counted: a bind must not wait for a webhook.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<rpc::StateEvent>,
    metrics: RoomMetrics,
}

impl Events {
    pub(super) fn new(bound: usize, metrics: RoomMetrics) -> (Self, mpsc::Receiver<rpc::StateEvent>) {
        let (queue, events) = mpsc::channel(bound);
        (Self { queue, metrics }, events)
    }

    pub(super) fn emit(&self, event: rpc::StateEvent) {
        if self.queue.try_send(event).is_err() {
            self.metrics.events_shed.inc();
        } else {
            self.metrics.events.inc();
        }
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// Hands events over until the room ends.
pub(super) async fn run<S: Services>(backend: Arc<Backend<S>>, mut events: mpsc::Receiver<rpc::StateEvent>) {
    let cancel = backend.cancel.clone();
    let one = |event| hand_over(&backend, event);
    let all = stream::poll_fn(|cx| events.poll_recv(cx)).map(one).buffer_unordered(UNDER_WAY);
    // The queue's sender lives in the backend itself, so the queue never closes; the token ends it.
    let _ = cancel.run_until_cancelled(all.for_each(|()| async {})).await;
}

async fn hand_over<S: Services>(backend: &Backend<S>, event: rpc::StateEvent) {
    let _under_way = backend.under_way();
    let taken = persist(backend, || {
        let event = event.clone();
        async {
            if backend.services.event(event).await? {
                Ok(())
            } else {
                // It answered, but could not keep it: as if it had been too busy.
                Err(PeerError::Full(cluster::Role::Coordinator))
            }
        }
    });
    if let Err(error) = taken.await {
        backend.metrics.events_shed.inc();
        tracing::warn!(app = event.app, online = event.online, %error, "a state event was given up");
    }
}
