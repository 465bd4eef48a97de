//! Bindings that are over: what is left is written down, the register is told, and if the user is offline now the app
//! is.

use std::sync::Arc;

use futures::StreamExt as _;
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::mpsc;
use wire::id::{AppId, ConnId, FenceNumber, Uid};

use super::{
    Backend, Services,
    inboxes::{self, persist},
    items,
    pending::PendingBind,
};
use crate::exchange::{BindAnswer, EndAsk, HeldSession};

/// Follows the ends of one thread until the thread ends.
pub(super) async fn run<S: Services>(backend: Arc<Backend<S>>, asks: mpsc::Receiver<Vec<EndAsk>>) {
    items(asks).for_each_concurrent(backend.limits.ends, |ask| end(&backend, ask)).await;
}

async fn end<S: Services>(backend: &Backend<S>, ask: EndAsk) {
    let _under_way = backend.under_way();
    let cursor = ask.cursor.filter(|_| ask.credits.is_empty());
    if ask.inbox.is_some() || cursor.is_some() {
        let item = rpc::AckItem {
            app: ask.app.0,
            uid: ask.uid.as_str().to_owned(),
            inbox: ask.inbox.map(inboxes::position),
            cursor: cursor.map(|cursor| rpc::BroadcastCursor { epoch: cursor.epoch.0, bseq: cursor.bseq.0 }),
            ..Default::default()
        };
        inboxes::ack(backend, item).await;
    }
    // What is to be counted waits for the archive, and nobody is to look online for that.
    tokio::join!(keep(backend, &ask), async {
        if unbind(backend, ask.app, &ask.uid, ask.fence).await && backend.services.wants_events(ask.app.0) {
            backend.events.emit(event(backend, ask.app, &ask.uid, ask.fence, ask.conn, false));
        }
    });
}

/// Has the broadcast cursor kept, with what is to be counted up to it.
async fn keep<S: Services>(backend: &Backend<S>, ask: &EndAsk) {
    let Some(cursor) = ask.cursor.filter(|_| !ask.credits.is_empty()) else { return };
    let kept = persist(backend, || async {
        let kept = inboxes::keep(backend, ask.app, &ask.uid, cursor, &ask.credits).await;
        kept.then_some(()).ok_or(PeerError::NoNode(cluster::Role::Saver))
    });
    if let Err(error) = kept.await {
        backend.metrics.acks_lost.inc();
        tracing::warn!(app = %ask.app, %error, "what became of broadcasts was not written down; the next bind tells it");
    }
}

/// Gives a session back that no thread has taken.
pub(super) async fn give_back<S: Services>(backend: &Backend<S>, app: AppId, uid: &Uid, fence: FenceNumber) {
    unbind(backend, app, uid, fence).await;
}

/// A session ended while it was being told to a register, which may have heard of the end first.
pub(super) async fn end_again<S: Services>(backend: &Backend<S>, session: &HeldSession) {
    let HeldSession { app, uid, conn, fence, .. } = session;
    if unbind(backend, *app, uid, *fence).await && backend.services.wants_events(app.0) {
        backend.events.emit(event(backend, *app, uid, *fence, *conn, false));
    }
}

/// Removes a session; whether the user is offline now.
async fn unbind<S: Services>(backend: &Backend<S>, app: AppId, uid: &Uid, fence: FenceNumber) -> bool {
    let item = rpc::UnbindItem {
        app: app.0,
        uid: uid.as_str().to_owned(),
        fence: fence.0,
        ..rpc::UnbindItem::default()
    };
    match persist(backend, || backend.services.unbind(item.clone())).await {
        Ok(removed) => removed,
        Err(error) => {
            backend.metrics.unbinds_lost.inc();
            tracing::warn!(%app, %error, "the register was not told of an end; it will learn it at the next bind");
            false
        }
    }
}

/// The event of a bind that is about to be answered, if anybody is told of it.
pub(super) fn online<S: Services>(
    backend: &Backend<S>,
    answer: &BindAnswer,
    pending: &PendingBind,
) -> Option<rpc::StateEvent> {
    let done = answer.result.as_ref().ok()?;
    let (app, uid) = pending.user();
    if !backend.services.wants_events(app.0) {
        return None;
    }
    Some(event(backend, *app, uid, done.fence, pending.conn(), true))
}

fn event<S>(
    backend: &Backend<S>,
    app: AppId,
    uid: &Uid,
    fence: FenceNumber,
    conn: ConnId,
    online: bool,
) -> rpc::StateEvent {
    rpc::StateEvent {
        app: app.0,
        uid: uid.as_str().to_owned(),
        online,
        room: backend.identity.node,
        conn: conn.0,
        fence: fence.0,
        at_ms: cluster::now_ms(),
        id: backend.ids.next(),
    }
}
