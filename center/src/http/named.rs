//! Which message a call is about: its id in the path, its app in the query.

use std::sync::Arc;

use axum::{Json as Answer, extract::FromRequestParts};
use futures::FutureExt as _;
use http::request::Parts;
use proto::v1;
use wire::id::MessageId;

use super::{
    answers::Recalled,
    extract::{InPath, InQuery},
    types::AppQuery,
};
use crate::{
    error::{Error, Result},
    ops::{Caller, Ops},
};

/// A message of an app.
pub(super) struct Named {
    /// The app's name; empty = the app of the API key.
    pub(super) app: String,
    pub(super) id: u64,
}

impl FromRequestParts<Arc<Ops>> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, ops: &Arc<Ops>) -> Result<Named> {
        let InPath(MessageId(id)) = InPath::from_request_parts(parts, ops).await?;
        let InQuery(AppQuery { app }) = InQuery::from_request_parts(parts, ops).await?;
        Ok(Named { app, id })
    }
}

impl Named {
    /// Takes the message back, whatever kind it is of.
    pub(super) async fn recall(self, ops: &Ops, caller: &Caller) -> Result<Answer<Recalled>> {
        let Named { app, id } = self;
        let recalled = ops.recall(caller, v1::RecallRequest { app, id }).boxed().await?;
        Ok(Answer(recalled.into()))
    }
}
