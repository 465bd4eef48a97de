//! What operators are told when something is wrong.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use peers::PeerError;
use serde_json::json;

use crate::spill::SpillError;

/// Why an operator's request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    #[error("app {0:?} is not known")]
    UnknownApp(String),
    #[error("limit must be 1 to {max}")]
    BadLimit { max: u32 },
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Spill(#[from] SpillError),
}

impl IntoResponse for OperatorError {
    fn into_response(self) -> Response {
        let (status, code, field) = match &self {
            OperatorError::UnknownApp(_) => (StatusCode::NOT_FOUND, "unknown_app", Some("app")),
            OperatorError::BadLimit { .. } => (StatusCode::BAD_REQUEST, "invalid", Some("limit")),
            OperatorError::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", None),
            OperatorError::Peer(error) => (error.outcome().http, "unavailable", None),
            OperatorError::Spill(_) => (StatusCode::INTERNAL_SERVER_ERROR, "spill_failed", None),
        };
        let mut error = json!({ "code": code, "message": self.to_string() });
        if let Some(field) = field {
            error["field"] = field.into();
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}
