//! The bind pipeline. The order matters: the token is verified, the register is told and gives the fence, and only then
//! is the inbox read. The center stores first and looks up second; so whichever way the two race, one of them sees the
//! message.

use std::{pin::pin, sync::Arc};

use futures::StreamExt as _;
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::mpsc;
use wire::{
    frame::BindCode,
    id::{AppId, Bseq, Cursor, Epoch, FenceNumber, MessageId, Uid},
};

use super::{ANSWERS, Backend, Services, broadcasts::credits, ends, inboxes, items, pending::PendingBind};
use crate::{
    event_loop::{Order, Thread},
    exchange::{BindAnswer, BindAsk, BindDone, BindRefusal, DeliveryItem, HeldSession, KickOrder},
};

/// Follows the binds of one thread until the thread ends.
pub(super) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    asks: mpsc::Receiver<Vec<BindAsk>>,
) {
    let limit = backend.limits.binds;
    let one = |ask| bind(Arc::clone(&backend), ask);
    let mut bound = pin!(items(asks).map(one).buffer_unordered(limit).ready_chunks(ANSWERS));
    while let Some(batch) = bound.next().await {
        let mut answers = Vec::with_capacity(batch.len());
        let mut taken = Vec::new();
        for (mut answer, pending) in batch {
            if let (Ok(done), Some(pending)) = (&mut answer.result, pending) {
                let notes = pending.notes();
                done.kicked = notes.kick_for(done.fence);
                done.reload = notes.reload;
                taken.push(Taken {
                    session: HeldSession {
                        binding: answer.binding,
                        app: done.app,
                        uid: pending.user().1.clone(),
                        conn: pending.conn(),
                        fence: done.fence,
                    },
                    kicked: done.kicked.is_some(),
                    reload: done.reload,
                    online: ends::online(&backend, &answer, &pending),
                    pending,
                });
            }
            answers.push(answer);
        }
        if thread.send(Order::Bound(answers)).await.is_err() {
            return;
        }
        for bind in taken {
            bind.finish(&backend, &thread).await;
        }
    }
}

/// A bind whose answer is on its way to the thread.
struct Taken {
    pending: PendingBind,
    session: HeldSession,
    kicked: bool,
    reload: bool,
    online: Option<rpc::StateEvent>,
}

impl Taken {
    /// Passes on what came while the answer was being given.
    async fn finish<S: Services>(self, backend: &Backend<S>, thread: &Thread) {
        if let Some(event) = self.online {
            backend.events.emit(event);
        }
        let HeldSession { app, uid, fence, .. } = self.session.clone();
        let round = self.pending.round();
        let notes = self.pending.finish();
        if let Some(why) = notes.kick_for(fence).filter(|_| !self.kicked) {
            let order = KickOrder { app, uid: uid.clone(), fence, why };
            let (reply, _) = tokio::sync::oneshot::channel();
            // A thread that has ended has no bindings.
            let _ = thread.send(Order::Kick([order].into(), reply)).await;
        }
        if notes.reload && !self.reload {
            let nudge = nudge(app, uid, fence);
            let (reply, _) = tokio::sync::oneshot::channel();
            let _ = thread.send(Order::Deliver([nudge].into(), reply)).await;
        }
        if round != backend.round() {
            // The register that answered may be gone, and the thread was asked before it had this session.
            backend.late.renew(thread, self.session);
        }
    }
}

/// "Something waits for you": the binding reads its inbox.
pub(super) fn nudge(app: AppId, uid: Uid, fence: FenceNumber) -> DeliveryItem {
    DeliveryItem {
        app,
        uid,
        fence: Some(fence),
        epoch: u64::MAX,
        seq: u64::MAX,
        id: MessageId(0),
        payload: None,
        accepted_ms: 0,
        collapse_key: "".into(),
        urgent: false,
    }
}

async fn bind<S: Services>(backend: Arc<Backend<S>>, mut ask: BindAsk) -> (BindAnswer, Option<PendingBind>) {
    let binding = ask.binding;
    let device = ask.device;
    let result = try_bind(&backend, &ask).await;
    let tags = std::mem::take(&mut ask.tags);
    match result {
        Ok((done, pending)) => (BindAnswer { binding, tags, device, result: Ok(done) }, Some(pending)),
        Err(refusal) => (BindAnswer { binding, tags, device, result: Err(refusal) }, None),
    }
}

async fn try_bind<S: Services>(
    backend: &Arc<Backend<S>>,
    ask: &BindAsk,
) -> Result<(BindDone, PendingBind), BindRefusal> {
    let app = backend.services.app(&ask.app).await.map_err(|error| busy(&error))?;
    let app =
        app.ok_or_else(|| refusal(BindCode::UnknownApp, format!("app {:?} is not known", &*ask.app)))?;
    let now_ms = cluster::now_ms();
    backend
        .verifier
        .verify(&app, &ask.token, &ask.uid, now_ms / 1_000)
        .map_err(|bad| refusal(bad.code(), bad.to_string()))?;
    let _under_way = backend.congestion.enter().map_err(|retry_after_ms| {
        backend.metrics.binds_shed.inc();
        BindRefusal { retry_after_ms, ..refusal(BindCode::Busy, "the cluster is busy".to_owned()) }
    })?;
    let id = AppId(app.id);
    let pending = backend.pending.enter(id, ask.uid.clone(), ask.conn, || backend.round()).await;
    let item = rpc::BindItem {
        app: id.0,
        uid: ask.uid.as_str().to_owned(),
        room: backend.identity.node,
        incarnation: backend.identity.life(),
        conn: ask.conn.0,
        since_ms: now_ms,
    };
    let fence = match backend.services.bind(item.clone()).await {
        Ok(fence) => fence,
        Err(error) => {
            if error.outcome().retry == peers::Retry::IfIdempotent {
                // Perhaps it was done and only the answer is lost: then the user looks online here.
                backend.late.unbind(rpc::UnbindItem {
                    app: item.app,
                    uid: item.uid,
                    fence: 0,
                    room: item.room,
                    incarnation: item.incarnation,
                    conn: item.conn,
                    since_ms: item.since_ms,
                });
            }
            return Err(busy(&error));
        }
    };
    match read(backend, id, ask).await {
        Ok((inbox, saved_cursor, cursor, log)) => {
            let fence = FenceNumber(fence);
            let (saved_cursor, owed) = credits::settle(backend, id, ask, saved_cursor, cursor).await;
            let done = BindDone {
                app: id,
                fence,
                inbox,
                cursor,
                saved_cursor,
                owed,
                log,
                kicked: None,
                reload: false,
            };
            Ok((done, pending))
        }
        Err(error) => {
            // The register has a session that no thread will ever hold.
            ends::give_back(backend, id, &ask.uid, FenceNumber(fence)).await;
            Err(busy(&error))
        }
    }
}

type Read = (crate::exchange::LoadDone, Cursor, Cursor, Cursor);

/// Reads the inbox's first page and finds where the broadcasts go on.
async fn read<S: Services>(backend: &Arc<Backend<S>>, app: AppId, ask: &BindAsk) -> Result<Read, PeerError> {
    let item = rpc::LoadItem {
        app: app.0,
        uid: ask.uid.as_str().to_owned(),
        after: ask.inbox.map(inboxes::position),
        acknowledges: ask.inbox.is_some(),
        bind: true,
        max_messages: backend.limits.page_messages,
        max_bytes: backend.limits.page_bytes,
        own_cursor: ask.broadcasts.is_some(),
        // UTC is what a user counts as of whom nothing is kept; so a bind of most costs the saver no write.
        utc_offset_min: (ask.device.offset != 0).then(|| i32::from(ask.device.offset) * 15),
    };
    let mut result = backend.services.load(item).await?;
    let wanted = ask.broadcasts.map_or(0, |cursor| cursor.bseq.0);
    let log = backend.broadcasts.head(app, wanted).await?;
    if result.cursor_unknown {
        // Nothing says how far the user is but the device itself, and that is believed only about this log.
        let own = ask.broadcasts.filter(|own| own.epoch == log.epoch && own.bseq <= log.bseq);
        let own = own.ok_or_else(|| PeerError::Unavailable {
            role: cluster::Role::Saver,
            node: None,
            detail: "the archive has the user's broadcast cursor".into(),
        })?;
        return Ok((inboxes::page(result), Cursor { bseq: Bseq(0), ..log }, own, log));
    }
    let saved = result
        .cursor
        .take()
        .map_or(log, |cursor| Cursor { epoch: Epoch(cursor.epoch), bseq: Bseq(cursor.bseq) });
    // The device's own cursor wins if it is further: it has seen what the saver has not been told. One that is ahead of
    // the log, or of another log, is not believed.
    let cursor = ask
        .broadcasts
        .filter(|own| own.epoch == log.epoch && own.bseq >= saved.bseq && own.bseq <= log.bseq)
        .unwrap_or(saved);
    Ok((inboxes::page(result), saved, cursor, log))
}

fn refusal(code: BindCode, message: String) -> BindRefusal {
    BindRefusal { code, message, retry_after_ms: 0 }
}

/// A service did not answer: the device tries again, at a time that the thread jitters unless the peer said when.
fn busy(error: &PeerError) -> BindRefusal {
    tracing::debug!(%error, "a bind failed");
    let after = error.outcome().retry_after.map_or(0, |after| after.as_millis());
    BindRefusal {
        code: BindCode::Busy,
        message: "the cluster is busy".to_owned(),
        retry_after_ms: u32::try_from(after).unwrap_or(u32::MAX),
    }
}
