//! What became of a message for each of its users, as a stream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, header};
use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{named::Named, types::AppQuery};
use crate::{
    error::{Error, Result},
    ops::{Caller, Ops},
};

/// One line of the answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetLine<'a> {
    uid: &'a str,
    /// `acked`, `stored`, `expired`, `recalled`, or `dropped:` and the reason.
    state: &'a str,
}

/// What became of a message for each of its users.
///
/// One JSON object a line (NDJSON), in the order of the users' names within each saver. It is read from the savers as fast as
/// it is taken. Should it break off, the last line is an error like that of any other call.
#[utoipa::path(
    get, path = "/v1/messages/{id}/targets", operation_id = "list_targets", tag = "messages",
    params(("id" = String, Path, description = "The message's id, a decimal number"), AppQuery),
    responses((status = 200, body = TargetLine, content_type = "application/x-ndjson")),
)]
pub(super) async fn list(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    Named { app, id }: Named,
) -> Result<Response> {
    let pages = ops.list_targets(Arc::new(caller), v1::ListTargetsRequest { app, id }).boxed().await?;
    let lines = pages.map(move |page| match page {
        Ok(page) => Ok(lines(&page)),
        Err(error) => last_line(&ops, &error),
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(([kind], Body::from_stream(lines)).into_response())
}

fn lines(page: &[v1::Target]) -> Bytes {
    let mut lines = Vec::with_capacity(page.len() * 48);
    for v1::Target { uid, state } in page {
        // Two texts: writing them to memory cannot fail.
        let _ = serde_json::to_writer(&mut lines, &TargetLine { uid, state });
        lines.push(b'\n');
    }
    lines.into()
}

/// The head of the answer has gone out: what is wrong can only be said here.
fn last_line(ops: &Ops, error: &Error) -> Result<Bytes> {
    let facts = error.facts();
    ops.metrics().failed("http", &facts.code);
    let mut line = super::error_json(error, &facts);
    line.push(b'\n');
    Ok(line.into())
}
