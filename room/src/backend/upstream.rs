//! Data from devices to the app's backend.

use std::{pin::pin, sync::Arc};

use futures::StreamExt as _;
use proto::internal as rpc;
use tokio::sync::mpsc;
use wire::frame::UpCode;

use super::{ANSWERS, Backend, Services, items};
use crate::{
    event_loop::{Order, Thread},
    exchange::{UpAnswer, UpAsk},
};

/// What a device is told when the coordinator did not say.
const RETRY_AFTER_MS: u32 = 2_000;

/// Follows the upstream items of one thread until the thread ends.
pub(super) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    asks: mpsc::Receiver<Vec<UpAsk>>,
) {
    let limit = backend.limits.ups;
    let one = |ask| hand_over(&backend, ask);
    let mut answered = pin!(items(asks).map(one).buffer_unordered(limit).ready_chunks(ANSWERS));
    while let Some(answers) = answered.next().await {
        if thread.send(Order::Ups(answers)).await.is_err() {
            return;
        }
    }
}

async fn hand_over<S: Services>(backend: &Backend<S>, ask: UpAsk) -> UpAnswer {
    let bytes = ask.payload.len();
    let item = rpc::UpItem {
        app: ask.app.0,
        uid: ask.uid.as_str().to_owned(),
        kind: ask.kind,
        payload: ask.payload,
        id: backend.ids.next(),
        at_ms: cluster::now_ms(),
    };
    let answer = |code, retry_after_ms| UpAnswer {
        conn: ask.conn,
        reference: ask.reference,
        code,
        retry_after_ms,
        bytes,
    };
    match backend.services.up(item).await {
        Ok(result) => match result.outcome() {
            rpc::UpOutcome::Taken => answer(UpCode::Ok, 0),
            rpc::UpOutcome::Rejected => answer(UpCode::Rejected, 0),
            rpc::UpOutcome::Retry => answer(UpCode::Retry, result.retry_after_ms.max(1)),
        },
        Err(error) => {
            tracing::debug!(app = %ask.app, %error, "upstream data was not taken");
            let after = error.outcome().retry_after.and_then(|after| u32::try_from(after.as_millis()).ok());
            answer(UpCode::Retry, after.unwrap_or(RETRY_AFTER_MS))
        }
    }
}
