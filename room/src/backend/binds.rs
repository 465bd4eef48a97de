//! The bind pipeline. The order matters: the token is verified, the register is told and gives the fence, and only then
//! is the inbox read. The center stores first and looks up second; so whichever way the two race, one of them sees the
//! message.
//!
//! Binds go together: those that come at a time share the calls to the registers and to the savers, and no bind has a task or a
//! future of its own. One that finds an obstacle (an app that is not at hand, another bind of its user, a call that failed) goes on
//! alone, and holds up nobody.

mod alone;
mod begin;
mod lanes;
mod line;
mod read;

use std::sync::Arc;

use futures::StreamExt as _;
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::mpsc;
use wire::{
    frame::BindCode,
    id::{AppId, FenceNumber, MessageId, Uid},
};

use super::{Backend, Services, ends, pending::PendingBind};
use crate::{
    event_loop::{Order, Thread},
    exchange::{BindAnswer, BindAsk, BindRefusal, DeliveryItem, HeldSession, KickOrder},
};
use line::Line;

/// A bind that is to be answered; nothing of it is left in the register, or it is pending until the thread has been told.
type Settled = (BindAnswer, Option<PendingBind>);

/// Follows the binds of one thread until the thread ends.
pub(super) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    mut asks: mpsc::Receiver<Vec<BindAsk>>,
) {
    let mut line = Line::new(&backend, &thread);
    let mut open = true;
    while open || !line.is_empty() {
        if !line.can_begin() {
            // Either something is under way, or there is room for more.
            tokio::select! {
                biased;
                Some(landed) = line.flights.next() => line.take_landed(landed),
                more = asks.recv(), if open && line.has_room() => match more {
                    Some(more) => line.take_asks(more),
                    None => open = false,
                },
            }
        }
        line.go_on();
        let settled = line.take_settled();
        if !settled.is_empty() && !answer(&backend, &thread, settled).await {
            return;
        }
    }
}

/// Hands answers to the thread; `false`: it has ended.
async fn answer<S: Services>(backend: &Backend<S>, thread: &Thread, settled: Vec<Settled>) -> bool {
    let mut answers = Vec::with_capacity(settled.len());
    let mut taken = Vec::with_capacity(settled.len());
    for (mut answer, pending) in settled {
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
                online: ends::online(backend, &answer, &pending),
                pending,
            });
        }
        answers.push(answer);
    }
    if thread.send(Order::Bound(answers)).await.is_err() {
        return false;
    }
    for bind in taken {
        bind.finish(backend, thread).await;
    }
    true
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
