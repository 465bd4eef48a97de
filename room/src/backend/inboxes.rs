//! Reading inboxes for bindings, and acking them.

use std::{pin::pin, sync::Arc};

use flow::{Attempt, GaveUp};
use futures::StreamExt as _;
use peers::PeerError;
use proto::internal as rpc;
use tokio::{sync::mpsc, time::Instant};
use wire::id::{AppId, Cursor, Epoch, Position, Seq, Uid};

use super::{ANSWERS, Backend, Services, broadcasts::credits::told, items};
use crate::{
    event_loop::{Order, Thread},
    exchange::{AckAsk, Credit, KeepAnswer, KeepAsk, LoadAnswer, LoadAsk, LoadDone, StoredMessage},
};

/// Cursors of live bindings of one thread that are being kept at a time.
const KEEPS: usize = 64;
/// Credits of one call.
const CREDITS: usize = 1_024;

/// Follows the loads of one thread until the thread ends.
pub(super) async fn run_loads<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    asks: mpsc::Receiver<Vec<LoadAsk>>,
) {
    let limit = backend.limits.loads;
    let one = |ask| load(&backend, ask);
    let mut loaded = pin!(items(asks).map(one).buffer_unordered(limit).ready_chunks(ANSWERS));
    while let Some(answers) = loaded.next().await {
        if thread.send(Order::Loaded(answers)).await.is_err() {
            return;
        }
    }
}

async fn load<S: Services>(backend: &Backend<S>, ask: LoadAsk) -> LoadAnswer {
    let item = rpc::LoadItem {
        app: ask.app.0,
        uid: ask.uid.as_str().to_owned(),
        after: Some(position(ask.after)),
        acknowledges: false,
        bind: false,
        max_messages: backend.limits.page_messages,
        max_bytes: backend.limits.page_bytes,
        own_cursor: None,
        ..Default::default()
    };
    let result = match backend.services.load(item).await {
        Ok(result) => Some(page(result)),
        Err(error) => {
            // The binding asks again at a later tick.
            tracing::debug!(app = %ask.app, %error, "a load failed");
            backend.metrics.load_failures.inc();
            None
        }
    };
    LoadAnswer { binding: ask.binding, result }
}

/// Follows the acks of one thread until the thread ends.
pub(super) async fn run_acks<S: Services>(backend: Arc<Backend<S>>, asks: mpsc::Receiver<Vec<AckAsk>>) {
    let one = |ask: AckAsk| {
        let backend = &backend;
        async move {
            let item = rpc::AckItem {
                app: ask.app.0,
                uid: ask.uid.as_str().to_owned(),
                inbox: Some(position(ask.inbox)),
                cursor: None,
                ..Default::default()
            };
            ack(backend, item).await;
        }
    };
    items(asks).for_each_concurrent(backend.limits.acks, one).await;
}

/// Follows the broadcast cursors of one thread's live bindings until the thread ends.
pub(super) async fn run_keeps<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    asks: mpsc::Receiver<Vec<KeepAsk>>,
) {
    let one = |ask: KeepAsk| {
        let (backend, thread) = (&backend, &thread);
        async move {
            let kept = keep(backend, ask.app, &ask.uid, ask.cursor, &ask.credits).await;
            let answer = KeepAnswer { binding: ask.binding, kept: kept.then_some(ask.cursor) };
            // A thread that has ended has no bindings.
            let _ = thread.send(Order::Kept(vec![answer])).await;
        }
    };
    items(asks).for_each_concurrent(KEEPS, one).await;
}

/// Has a broadcast cursor kept, with what is to be counted up to it. `false`: not all of it, as far as is known; then it is
/// told again, with what has come since, and the saver counts nothing twice.
pub(super) async fn keep<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    uid: &Uid,
    cursor: Cursor,
    credits: &[Credit],
) -> bool {
    let _under_way = backend.under_way();
    let steps = credits.chunks(CREDITS);
    let last = steps.len().saturating_sub(1);
    for (step, credits) in steps.enumerate() {
        let bseq = if step == last { cursor.bseq.0 } else { credits.last().map_or(0, |credit| credit.bseq) };
        let item = rpc::AckItem {
            app: app.0,
            uid: uid.as_str().to_owned(),
            inbox: None,
            cursor: Some(rpc::BroadcastCursor { epoch: cursor.epoch.0, bseq }),
            credits: told(credits),
        };
        if let Err(error) = backend.services.ack(item).await {
            tracing::debug!(%app, %error, "a broadcast cursor was not kept");
            return false;
        }
    }
    true
}

/// Writes an ack down. One that is lost is no loss of a message: it is sent again at the next bind, and the SDK knows it.
pub(super) async fn ack<S: Services>(backend: &Backend<S>, item: rpc::AckItem) {
    let _under_way = backend.under_way();
    let result = persist(backend, || backend.services.ack(item.clone())).await;
    if let Err(error) = result {
        backend.metrics.acks_lost.inc();
        tracing::warn!(app = item.app, %error, "an ack was not written down; the message will be sent again");
    }
}

/// Tries something that may be repeated until it is done, the room's patience ends or the process does.
pub(super) async fn persist<S, T, Fut>(
    backend: &Backend<S>,
    op: impl Fn() -> Fut,
) -> Result<T, GaveUp<PeerError>>
where
    Fut: Future<Output = Result<T, PeerError>>,
{
    let deadline = Instant::now() + backend.limits.patience;
    flow::retry(backend.backoff(), deadline, &backend.cancel, |_| {
        let attempt = op();
        async move {
            attempt.await.map_err(|error| match error {
                PeerError::Refused(_) | PeerError::ShuttingDown => Attempt::Stop(error),
                // A full queue too: the number of those who wait here is bounded.
                _ => Attempt::Again(error),
            })
        }
    })
    .await
}

pub(super) fn position(position: Position) -> rpc::Position {
    rpc::Position { epoch: position.epoch.0, seq: position.seq.0 }
}

/// A page as the threads have it.
pub(super) fn page(result: rpc::LoadResult) -> LoadDone {
    let start = result.start.unwrap_or_default();
    LoadDone {
        start: Position { epoch: Epoch(start.epoch), seq: Seq(start.seq) },
        messages: result
            .messages
            .into_iter()
            .map(|message| StoredMessage {
                seq: message.seq,
                id: message.id.into(),
                payload: message.payload,
                accepted_ms: message.accepted_ms,
                collapse_key: message.collapse_key.into(),
            })
            .collect(),
        through: result.through,
        more: result.more,
    }
}
