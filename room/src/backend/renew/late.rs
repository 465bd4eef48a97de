//! What comes one by one: sessions that a round has missed, and sessions that a register holds and no thread does.

use std::sync::Arc;

use cluster::{Picture, Role, rendezvous};
use futures::{StreamExt as _, stream};
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::{mpsc, watch};

use super::telling;
use crate::{
    backend::{Backend, Services, inboxes::persist},
    event_loop::Thread,
    exchange::HeldSession,
    metrics::RoomMetrics,
};

/// What may wait: as many binds as are under way in a few threads may be caught between two owners.
const QUEUE: usize = 8_192;
/// What is done at a time; the client packs calls into batches.
const UNDER_WAY: usize = 64;

/// Something to put right at a register.
#[derive(Debug)]
pub(crate) enum Task {
    /// It does not know this session.
    Renew(Thread, HeldSession),
    /// It knows one that nobody holds.
    Unbind(rpc::UnbindItem),
}

/// What is left to put right.
#[derive(Debug)]
pub(crate) struct Late {
    queue: mpsc::Sender<Task>,
    metrics: RoomMetrics,
}

impl Late {
    pub(in crate::backend) fn new(metrics: RoomMetrics) -> (Self, mpsc::Receiver<Task>) {
        let (queue, late) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, late)
    }

    /// Has a session told again. At the bound it is counted and stays unknown to its register until it binds again.
    pub(in crate::backend) fn renew(&self, thread: &Thread, session: HeldSession) {
        if self.queue.try_send(Task::Renew(thread.clone(), session)).is_err() {
            self.metrics.renewals_lost.inc();
        }
    }

    /// Has a session removed that no thread holds. At the bound it is counted; the next delivery finds it again.
    pub(crate) fn unbind(&self, item: rpc::UnbindItem) {
        if self.queue.try_send(Task::Unbind(item)).is_err() {
            self.metrics.unbinds_lost.inc();
        }
    }
}

/// Puts right what comes until the room ends.
pub(in crate::backend) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    mut tasks: mpsc::Receiver<Task>,
    pictures: watch::Receiver<Arc<Picture>>,
) {
    let cancel = backend.cancel.clone();
    let one = |task| {
        let (backend, pictures) = (Arc::clone(&backend), pictures.clone());
        async move {
            match task {
                Task::Renew(thread, session) => renew(&backend, &thread, session, &pictures).await,
                Task::Unbind(item) => unbind(&backend, item).await,
            }
        }
    };
    let all = stream::poll_fn(|cx| tasks.poll_recv(cx)).for_each_concurrent(UNDER_WAY, one);
    // The queue's sender lives in the backend itself, so the queue never closes; the token ends it.
    let _ = cancel.run_until_cancelled(all).await;
}

async fn renew<S: Services>(
    backend: &Backend<S>,
    thread: &Thread,
    session: HeldSession,
    pictures: &watch::Receiver<Arc<Picture>>,
) {
    let told = persist(backend, || {
        let session = session.clone();
        async move {
            let key = rendezvous::user_key(session.app.0, &session.uid);
            let owner = pictures.borrow().owner(Role::Register, key).map(|node| node.id);
            let owner = owner.ok_or(PeerError::NoNode(Role::Register))?;
            telling::restore(backend, thread, owner, backend.identity.life(), vec![session]).await
        }
    });
    if let Err(error) = told.await {
        backend.metrics.renewals_lost.inc();
        tracing::debug!(app = %session.app, %error, "a session could not be told again");
    }
}

async fn unbind<S: Services>(backend: &Backend<S>, item: rpc::UnbindItem) {
    match persist(backend, || backend.services.unbind(item.clone())).await {
        Ok(true) => _ = backend.metrics.stale_sessions.inc(),
        Ok(false) => {}
        Err(error) => {
            backend.metrics.unbinds_lost.inc();
            tracing::debug!(app = item.app, %error, "a register could not be told that nobody holds a session");
        }
    }
}
