//! What became of messages.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use futures::FutureExt as _;
use proto::v1;

use super::{
    answers::{Ledger, Recalled},
    named::Named,
    types::AppQuery,
};
use crate::{
    error::Result,
    ops::{Caller, Ops},
};

/// The ledger of a message.
///
/// targets = acked + stored + expired + the sum of dropped + recalled.
#[utoipa::path(
    get, path = "/v1/messages/{id}", operation_id = "get_message", tag = "messages",
    params(("id" = String, Path, description = "The message's id, a decimal number"), AppQuery),
    responses((status = 200, body = Ledger)),
)]
pub(super) async fn ledger(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
) -> Result<Answer<Ledger>> {
    let ledger = ops.message(&caller, v1::GetMessageRequest { app, id }).boxed().await?;
    Ok(Answer(ledger.into()))
}

/// Take a message back.
///
/// It leaves the inboxes that it is still in; users online who may have it are told by a Recall frame.
#[utoipa::path(
    delete, path = "/v1/messages/{id}", operation_id = "recall_message", tag = "messages",
    params(("id" = String, Path, description = "The message's id, a decimal number"), AppQuery),
    responses((status = 200, body = Recalled)),
)]
pub(super) async fn recall(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    message: Named,
) -> Result<Answer<Recalled>> {
    message.recall(&ops, &caller).await
}
