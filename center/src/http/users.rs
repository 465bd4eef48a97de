//! Users: where they are, kicking them, tokens for their devices.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use futures::FutureExt as _;
use proto::v1;

use super::{
    answers::{Kicked, Token, User},
    extract::{InPath, InQuery, Json},
    types::{AppQuery, TokenBody},
};
use crate::{
    error::Result,
    ops::{Caller, Ops},
};

/// Where a user is and what waits for it.
#[utoipa::path(
    get, path = "/v1/users/{uid}", operation_id = "get_user", tag = "users",
    params(("uid" = String, Path, description = "The user, percent-encoded"), AppQuery),
    responses((status = 200, body = User)),
)]
pub(super) async fn state(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InPath(uid): InPath<String>,
    InQuery(AppQuery { app }): InQuery<AppQuery>,
) -> Result<Answer<User>> {
    let user = ops.user(&caller, v1::GetUserRequest { app, uid }).boxed().await?;
    Ok(Answer(user.into()))
}

/// End the user's binding. Its device does not bind again by itself.
#[utoipa::path(
    post, path = "/v1/users/{uid}/kick", operation_id = "kick", tag = "users",
    params(("uid" = String, Path, description = "The user, percent-encoded"), AppQuery),
    responses((status = 200, body = Kicked)),
)]
pub(super) async fn kick(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InPath(uid): InPath<String>,
    InQuery(AppQuery { app }): InQuery<AppQuery>,
) -> Result<Answer<Kicked>> {
    let kicked = ops.kick(&caller, v1::KickRequest { app, uid }).boxed().await?;
    Ok(Answer(Kicked { was_online: kicked.was_online }))
}

/// A token with which a device binds as that user, signed with the app's secret.
#[utoipa::path(
    post, path = "/v1/tokens", operation_id = "issue_token", tag = "users", request_body = TokenBody,
    responses((status = 200, body = Token)),
)]
pub(super) async fn token(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    body: Json<TokenBody>,
) -> Result<Answer<Token>> {
    let (body, _held) = body.into_parts();
    let issued = ops.issue_token(&caller, body.into()).boxed().await?;
    Ok(Answer(Token { token: issued.token, expires_ms: issued.expires_ms }))
}
