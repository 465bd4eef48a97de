//! Apps and their keys. All of it needs a key with the scope "admin".

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use futures::FutureExt as _;
use http::StatusCode;
use proto::v1;

use super::{
    answers::{App, Apps, NewApp, NewKey},
    extract::{InPath, Json},
    types::{AppPatch, NewAppBody, NewKeyBody},
};
use crate::{
    error::Result,
    ops::{Caller, Ops},
};

/// Create an app.
///
/// The answer holds a first API key (push and read), the secret for device tokens and the secret of webhooks. They
/// are shown this once.
#[utoipa::path(
    post, path = "/v1/apps", operation_id = "create_app", tag = "apps", request_body = NewAppBody,
    responses((status = 201, body = NewApp)),
)]
pub(super) async fn create(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    body: Json<NewAppBody>,
) -> Result<(StatusCode, Answer<NewApp>)> {
    let (body, _held) = body.into_parts();
    let created = ops.create_app(&caller, body.into()).boxed().await?;
    Ok((StatusCode::CREATED, Answer(created.into())))
}

/// All apps.
#[utoipa::path(get, path = "/v1/apps", operation_id = "list_apps", tag = "apps", responses((status = 200, body = Apps)))]
pub(super) async fn list(State(ops): State<Arc<Ops>>, caller: Caller) -> Result<Answer<Apps>> {
    let listed = ops.list_apps(&caller).boxed().await?;
    Ok(Answer(Apps { apps: listed.apps.into_iter().map(App::from).collect() }))
}

/// One app.
#[utoipa::path(
    get, path = "/v1/apps/{app}", operation_id = "get_app", tag = "apps",
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, body = App)),
)]
pub(super) async fn show(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InPath(app): InPath<String>,
) -> Result<Answer<App>> {
    let info = ops.show_app(&caller, v1::GetAppRequest { app }).boxed().await?;
    Ok(Answer(info.into()))
}

/// Change an app. What is absent stays as it is.
#[utoipa::path(
    patch, path = "/v1/apps/{app}", operation_id = "update_app", tag = "apps", request_body = AppPatch,
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, body = App)),
)]
pub(super) async fn update(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InPath(app): InPath<String>,
    body: Json<AppPatch>,
) -> Result<Answer<App>> {
    let (body, _held) = body.into_parts();
    let info = ops.update_app(&caller, body.into_request(app)).boxed().await?;
    Ok(Answer(info.into()))
}

/// Create an API key for an app. It is shown this once.
#[utoipa::path(
    post, path = "/v1/apps/{app}/keys", operation_id = "create_key", tag = "apps", request_body = NewKeyBody,
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 201, body = NewKey)),
)]
pub(super) async fn create_key(
    State(ops): State<Arc<Ops>>,
    caller: Caller,
    InPath(app): InPath<String>,
    body: Json<NewKeyBody>,
) -> Result<(StatusCode, Answer<NewKey>)> {
    let (body, _held) = body.into_parts();
    let created = ops.create_key(&caller, v1::CreateKeyRequest { app, scopes: body.scopes }).boxed().await?;
    Ok((StatusCode::CREATED, Answer(NewKey { key: created.key })))
}
