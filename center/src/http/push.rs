//! Pushing.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use futures::FutureExt as _;

use super::{
    answers::{Multicasted, Pushed},
    extract::{IdempotencyKey, Json, ManyUsers},
    sending::{MulticastBody, PushBody},
};
use crate::{
    error::Result,
    ops::{Caller, Ops},
};

/// Push to one user.
///
/// Answers when the message is durable; delivery follows. A transient message is never stored: it goes to who is
/// online, and the answer says whether somebody was.
#[utoipa::path(
    post, path = "/v1/push", tag = "push", request_body = PushBody,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 characters; a repeat within the window answers with the first call's result")),
    responses((status = 200, body = Pushed)),
)]
pub(super) async fn push(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Json<PushBody>,
) -> Result<Answer<Pushed>> {
    let (body, _held) = body.into_parts();
    let pushed = ops.push(&caller, body.into_request(key.0)?).boxed().await?;
    Ok(Answer(pushed.into()))
}

/// Push one payload to a list of users.
///
/// The payload is stored once, under one id. Users that it could not be stored for are named in the answer.
#[utoipa::path(
    post, path = "/v1/multicast", tag = "push", request_body = MulticastBody,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 characters; a repeat tries those again that failed")),
    responses((status = 200, body = Multicasted)),
)]
pub(super) async fn multicast(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Json<MulticastBody, ManyUsers>,
) -> Result<Answer<Multicasted>> {
    let (body, _held) = body.into_parts();
    let done = ops.multicast(&caller, body.into_request(key.0)?).boxed().await?;
    Ok(Answer(done.into()))
}
