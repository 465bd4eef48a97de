//! Broadcasts: making, previewing, steering and following them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json as Answer,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{FutureExt as _, Stream, StreamExt as _};
use proto::v1;

use super::{
    answers::Recalled,
    broadcast_answers::{BroadcastProgress, Broadcasted, Broadcasts, Preview},
    broadcast_body::{BroadcastBody, BroadcastPatch, BroadcastsQuery},
    extract::{IdempotencyKey, InQuery, Json},
    named::Named,
    types::AppQuery,
};
use crate::{
    error::{Error, Result},
    ops::{Caller, Ops},
};

/// A line in an idle stream: what is between here and the caller then does not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Push one payload to all users of the app, or to those that an audience names.
///
/// One that is neither paced nor for later is in the app's log when this answers; the rooms send it to who is online, and who
/// is not gets it at the next bind. Any other is kept, and released by the centers.
#[utoipa::path(
    post, path = "/v1/broadcasts", operation_id = "broadcast", tag = "push", request_body = BroadcastBody,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 characters; a repeat within the window answers with the first call's result")),
    responses((status = 200, body = Broadcasted)),
)]
pub(super) async fn create(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Json<BroadcastBody>,
) -> Result<Answer<Broadcasted>> {
    let (body, _held) = body.into_parts();
    let done = ops.broadcast(&caller, body.into_request(key.0)?).boxed().await?;
    Ok(Answer(done.into()))
}

/// What a broadcast would reach and cost now. Nothing is sent.
#[utoipa::path(
    post, path = "/v1/broadcasts/preview", operation_id = "preview_broadcast", tag = "messages", request_body = BroadcastBody,
    responses((status = 200, body = Preview)),
)]
pub(super) async fn preview(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    body: Json<BroadcastBody>,
) -> Result<Answer<Preview>> {
    let (body, _held) = body.into_parts();
    let preview = ops.preview_broadcast(&caller, body.into_request(String::new())?).boxed().await?;
    Ok(Answer(preview.into()))
}

/// The app's broadcasts, newest first.
#[utoipa::path(
    get, path = "/v1/broadcasts", operation_id = "list_broadcasts", tag = "messages", params(BroadcastsQuery),
    responses((status = 200, body = Broadcasts)),
)]
pub(super) async fn list(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InQuery(BroadcastsQuery { app, before, limit }): InQuery<BroadcastsQuery>,
) -> Result<Answer<Broadcasts>> {
    if limit == Some(0) {
        return Err(Error::invalid("limit", "must be at least 1"));
    }
    let before_id = before.map_or(0, |id| id.0);
    let request = v1::ListBroadcastsRequest { app, before_id, limit: limit.unwrap_or(0) };
    let found = ops.list_broadcasts(&caller, request).boxed().await?;
    Ok(Answer(Broadcasts { broadcasts: found.broadcasts.into_iter().map(Into::into).collect() }))
}

/// How far a broadcast has come.
///
/// targets = acked + stored + expired + the sum of dropped + recalled_users, at any moment.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}", operation_id = "get_broadcast", tag = "messages",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress)),
)]
pub(super) async fn progress(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
) -> Result<Answer<BroadcastProgress>> {
    let state = ops.broadcast_state(&caller, v1::GetBroadcastRequest { app, id }).boxed().await?;
    Ok(Answer(state.into()))
}

/// Follow a broadcast.
///
/// A stream of server-sent events `state`, each with the answer of `GET /v1/broadcasts/{id}`: one now and one after each change,
/// at most four a second. It ends when the broadcast has ended and everybody it was sent to has acked, or it has expired.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}/events", operation_id = "watch_broadcast", tag = "messages",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress, content_type = "text/event-stream")),
)]
pub(super) async fn events(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>> {
    let watch = ops.watch_broadcast(&caller, v1::GetBroadcastRequest { app, id }).boxed().await?;
    let events = watch.states().map(|state| {
        let event = Event::default().event("state");
        // Numbers and texts: this cannot fail.
        Ok(event.json_data(BroadcastProgress::from(state)).unwrap_or_default())
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Change a broadcast's speed, or pause, resume or cancel it.
///
/// Takes effect in under a second.
#[utoipa::path(
    patch, path = "/v1/broadcasts/{id}", operation_id = "change_broadcast", tag = "push", request_body = BroadcastPatch,
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress)),
)]
pub(super) async fn change(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
    body: Json<BroadcastPatch>,
) -> Result<Answer<BroadcastProgress>> {
    let (BroadcastPatch { action, users_per_second }, _held) = body.into_parts();
    control(&ops, &caller, v1::ControlBroadcastRequest { app, id, action, users_per_second }).await
}

/// Release no more of a broadcast until it is resumed.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/pause", operation_id = "pause_broadcast", tag = "push",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress)),
)]
pub(super) async fn pause(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    broadcast: Named,
) -> Result<Answer<BroadcastProgress>> {
    act(&ops, &caller, broadcast, "pause").await
}

/// Go on with a broadcast that was paused, or that paused itself.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/resume", operation_id = "resume_broadcast", tag = "push",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress)),
)]
pub(super) async fn resume(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    broadcast: Named,
) -> Result<Answer<BroadcastProgress>> {
    act(&ops, &caller, broadcast, "resume").await
}

/// Release no more of a broadcast, ever. Whom it has been released to keeps it, or still gets it.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/cancel", operation_id = "cancel_broadcast", tag = "push",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = BroadcastProgress)),
)]
pub(super) async fn cancel(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    broadcast: Named,
) -> Result<Answer<BroadcastProgress>> {
    act(&ops, &caller, broadcast, "cancel").await
}

/// Take a broadcast back.
///
/// It is released no further and leaves the log; users online who may have it are told by a Recall frame.
#[utoipa::path(
    delete, path = "/v1/broadcasts/{id}", operation_id = "recall_broadcast", tag = "push",
    params(("id" = String, Path, description = "The broadcast's id, a decimal number"), AppQuery),
    responses((status = 200, body = Recalled)),
)]
pub(super) async fn recall(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    message: Named,
) -> Result<Answer<Recalled>> {
    message.recall(&ops, &caller).await
}

async fn act(
    ops: &Ops,
    caller: &Caller,
    Named { app, id }: Named,
    action: &str,
) -> Result<Answer<BroadcastProgress>> {
    let action = action.to_owned();
    control(ops, caller, v1::ControlBroadcastRequest { app, id, action, users_per_second: None }).await
}

async fn control(
    ops: &Ops,
    caller: &Caller,
    request: v1::ControlBroadcastRequest,
) -> Result<Answer<BroadcastProgress>> {
    let state = ops.control_broadcast(caller, request).boxed().await?;
    Ok(Answer(state.into()))
}
