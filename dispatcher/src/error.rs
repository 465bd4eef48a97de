//! Why there is no route, and what that means to each kind of caller.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::{Code, Status, metadata::MetadataValue};

/// Why a device was not told where to connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A field is malformed or over its bound.
    #[error("{message}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The query cannot be read.
    #[error("the query cannot be read: {0}")]
    Malformed(String),
    /// Nothing is served under that path.
    #[error("nothing is served here; ask GET /v1/route")]
    NoSuchPath,
    /// The path takes no other method than GET.
    #[error("only GET is served here")]
    NoSuchMethod,
    /// No room takes devices now.
    #[error("no room takes connections now")]
    NoRooms {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// What an error is in each of the protocols. The only place that maps it.
struct Facts {
    code: &'static str,
    http: StatusCode,
    grpc: Code,
    field: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl RouteError {
    fn facts(&self) -> Facts {
        let facts = |code, http, grpc| Facts { code, http, grpc, field: None, retry_after: None };
        match self {
            RouteError::Invalid { field, .. } => Facts {
                field: Some(field),
                ..facts("invalid", StatusCode::BAD_REQUEST, Code::InvalidArgument)
            },
            RouteError::Malformed(_) => facts("malformed", StatusCode::BAD_REQUEST, Code::InvalidArgument),
            RouteError::NoSuchPath => facts("not_found", StatusCode::NOT_FOUND, Code::Unimplemented),
            RouteError::NoSuchMethod => {
                facts("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented)
            }
            RouteError::NoRooms { retry_after } => Facts {
                retry_after: Some(*retry_after),
                ..facts("no_rooms", StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable)
            },
        }
    }

    /// Stable word, the same in answers and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.facts().code
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let Facts { code, http, field, retry_after, .. } = self.facts();
        let mut error = json!({"code": code, "message": self.to_string()});
        if let Some(field) = field {
            error["field"] = field.into();
        }
        if let Some(after) = retry_after {
            error["retry_after_ms"] = (after.as_millis() as u64).into();
        }
        let mut response = (http, Json(json!({ "error": error }))).into_response();
        if let Some(after) = retry_after {
            // The header counts whole seconds; rounded up, as coming early is useless.
            let seconds = after.as_millis().div_ceil(1000) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<RouteError> for Status {
    fn from(error: RouteError) -> Status {
        let Facts { grpc, retry_after, code, .. } = error.facts();
        let mut status = Status::new(grpc, error.to_string());
        let metadata = status.metadata_mut();
        metadata.insert("longwire-code", MetadataValue::from_static(code));
        if let Some(after) = retry_after {
            metadata.insert("retry-after-ms", MetadataValue::from(after.as_millis() as u64));
        }
        status
    }
}
