//! Messages that wait for their time.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use futures::FutureExt as _;
use proto::v1;
use serde::Deserialize;

use super::{
    answers::{Cancelled, ScheduledList},
    extract::InQuery,
    named::Named,
    types::AppQuery,
};
use crate::{
    error::Result,
    ops::{Caller, Ops},
};

/// Which part of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    #[param(required = false)]
    app: String,
    /// 1 to 1,000; absent = 100.
    #[serde(default)]
    #[param(required = false)]
    limit: u32,
}

/// What waits for its time: pushes and multicasts, soonest first.
#[utoipa::path(
    get, path = "/v1/scheduled", operation_id = "list_scheduled", tag = "messages", params(ListQuery),
    responses((status = 200, body = ScheduledList)),
)]
pub(super) async fn list(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InQuery(ListQuery { app, limit }): InQuery<ListQuery>,
) -> Result<Answer<ScheduledList>> {
    let listed = ops.list_scheduled(&caller, v1::ListScheduledRequest { app, limit }).boxed().await?;
    Ok(Answer(listed.into()))
}

/// Take a message back before its time.
///
/// What was sent already, where the time is that of each device, stays: `DELETE /v1/messages/{id}` takes back both.
#[utoipa::path(
    delete, path = "/v1/scheduled/{id}", operation_id = "cancel_scheduled", tag = "messages",
    params(("id" = String, Path, description = "The message's id, a decimal number"), AppQuery),
    responses((status = 200, body = Cancelled)),
)]
pub(super) async fn cancel(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
) -> Result<Answer<Cancelled>> {
    let done = ops.cancel_scheduled(&caller, v1::CancelScheduledRequest { app, id }).boxed().await?;
    Ok(Answer(Cancelled { cancelled: done.cancelled }))
}
