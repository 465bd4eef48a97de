//! A multicast whose list of users is streamed.

use std::sync::Arc;

use axum::{Json as Answer, body::Body, extract::State};
use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::BodyExt as _;

use super::{
    answers::Multicasted,
    extract::{BodyBound as _, IdempotencyKey, OneMessage, discard, parse},
    ndjson::{Line, Lines},
    sending::MulticastHead,
};
use crate::{
    error::{Error, Result},
    ops::{Caller, Ops, Upload},
};

/// Push one payload to a long list of users.
///
/// The body has one JSON value a line (NDJSON): first the message, then a user each, as `"alice"` or `{"uid": "alice"}`. It is
/// read as fast as the message can be stored, so its length does not matter to the center: by default up to 1,000,000 users.
/// A list that is faster than the app's rate is slowed down to it; it is refused only if nothing of the rate is left when it
/// begins. If it breaks off, the error says in `progress` how far it came, and the same list with the same idempotency key goes
/// on: each user gets the message once.
#[utoipa::path(
    post, path = "/v1/multicasts", operation_id = "multicast_stream", tag = "push",
    request_body(content = MulticastHead, content_type = "application/x-ndjson",
        description = "The message on the first line, then a user on each line"),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 characters; a repeat goes on, and tries those again that failed. The message has to be the \
            same, the users are those of all calls together")),
    responses((status = 200, body = Multicasted)),
)]
pub(super) async fn stream(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    key: IdempotencyKey,
    mut body: Body,
) -> Result<Answer<Multicasted>> {
    let done = read(ops, caller, key.0, &mut body).boxed().await;
    if done.is_err() {
        discard(body).await;
    }
    Ok(Answer(done?.into()))
}

async fn read(
    ops: Arc<Ops>,
    caller: Caller,
    key: String,
    body: &mut Body,
) -> Result<proto::v1::MulticastResponse> {
    let head_max = OneMessage::limit(&ops);
    let mut lines = Lines::new(head_max);
    // The first line is gathered before anything is known of it.
    let gathered = ops.bodies().take(head_max)?;
    let head = loop {
        if let Some(line) = lines.next()? {
            break line;
        }
        match more(&ops, body).await? {
            Some(bytes) => lines.feed(bytes),
            None => break lines.last().ok_or(Error::Malformed("the body is empty".into()))?,
        }
    };
    let head = parse::<MulticastHead>(&head.bytes)?.into_request(key)?;
    drop(gathered);
    let mut upload = Upload::begin(Arc::clone(&ops), Arc::new(caller), head).await?;
    match add_all(&ops, &mut upload, &mut lines, body).await {
        Ok(()) => upload.finish().await,
        Err(error) => Err(upload.stop(error).await),
    }
}

async fn add_all(ops: &Ops, upload: &mut Upload, lines: &mut Lines, body: &mut Body) -> Result<()> {
    loop {
        while let Some(line) = lines.next()? {
            upload.add(line.user()?).await?;
        }
        match more(ops, body).await? {
            Some(bytes) => lines.feed(bytes),
            None => break,
        }
    }
    match lines.last().as_ref().map(Line::user) {
        Some(user) => upload.add(user?).await,
        None => Ok(()),
    }
}

/// The next bytes. Who sends nothing for as long as a whole body may take otherwise is not waited for.
async fn more(ops: &Ops, body: &mut Body) -> Result<Option<Bytes>> {
    let patience = ops.config().body_timeout;
    loop {
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                // Trailers say nothing here.
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Ok(Some(Err(_))) => return Err(Error::Malformed("the request's body ended early".into())),
            Err(_) => return Err(Error::BodyTimeout),
        }
    }
}
