//! The HTTP API: a thin translation between JSON and [`crate::ops`]. Handlers box the operations, so that the code of
//! their states is made once, and not again in each of axum's layers around them.

mod answers;
mod apps;
mod broadcast_answers;
mod broadcast_body;
mod broadcasts;
mod docs;
mod extract;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod messages;
mod multicasts;
mod named;
mod ndjson;
mod openapi;
mod push;
mod scheduled;
mod sending;
mod targets;
mod types;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, patch, post},
};
use http::{HeaderMap, HeaderValue, header};
use wire::id::MessageId;

use crate::{
    error::{Error, Facts, whole_millis},
    ops::Ops,
};
use types::{ErrorBody, ErrorFacts, ErrorProgress};

/// The HTTP routes. gRPC services may be added to them.
pub(crate) fn router(ops: Arc<Ops>) -> Router {
    let routes =
        ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.handlers)()));
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(|| async { Error::NoMethod })
        .layer(middleware::map_response_with_state(Arc::clone(&ops), count_error))
        .with_state(ops)
}

/// One path of the API and all that is done there.
struct Route {
    path: &'static str,
    /// The methods, in the words of OpenAPI; a test compares them with the document.
    #[cfg_attr(not(test), allow(dead_code))]
    methods: &'static [&'static str],
    handlers: fn() -> MethodRouter<Arc<Ops>>,
}

const ROUTES: &[Route] = &[
    Route { path: "/v1/push", methods: &["post"], handlers: || post(push::push) },
    Route { path: "/v1/multicast", methods: &["post"], handlers: || post(push::multicast) },
    Route { path: "/v1/multicasts", methods: &["post"], handlers: || post(multicasts::stream) },
    Route { path: "/v1/scheduled", methods: &["get"], handlers: || get(scheduled::list) },
    Route { path: "/v1/scheduled/{id}", methods: &["delete"], handlers: || delete(scheduled::cancel) },
    Route { path: "/v1/messages/{id}/targets", methods: &["get"], handlers: || get(targets::list) },
    Route {
        path: "/v1/broadcasts",
        methods: &["get", "post"],
        handlers: || post(broadcasts::create).get(broadcasts::list),
    },
    Route { path: "/v1/broadcasts/preview", methods: &["post"], handlers: || post(broadcasts::preview) },
    Route {
        path: "/v1/broadcasts/{id}",
        methods: &["delete", "get", "patch"],
        handlers: || get(broadcasts::progress).patch(broadcasts::change).delete(broadcasts::recall),
    },
    Route { path: "/v1/broadcasts/{id}/events", methods: &["get"], handlers: || get(broadcasts::events) },
    Route { path: "/v1/broadcasts/{id}/pause", methods: &["post"], handlers: || post(broadcasts::pause) },
    Route { path: "/v1/broadcasts/{id}/resume", methods: &["post"], handlers: || post(broadcasts::resume) },
    Route { path: "/v1/broadcasts/{id}/cancel", methods: &["post"], handlers: || post(broadcasts::cancel) },
    Route {
        path: "/v1/messages/{id}",
        methods: &["get", "delete"],
        handlers: || get(messages::ledger).delete(messages::recall),
    },
    Route { path: "/v1/users/{uid}", methods: &["get"], handlers: || get(users::state) },
    Route { path: "/v1/users/{uid}/kick", methods: &["post"], handlers: || post(users::kick) },
    Route { path: "/v1/tokens", methods: &["post"], handlers: || post(users::token) },
    Route { path: "/v1/apps", methods: &["get", "post"], handlers: || get(apps::list).post(apps::create) },
    Route {
        path: "/v1/apps/{app}",
        methods: &["get", "patch"],
        handlers: || patch(apps::update).get(apps::show),
    },
    Route { path: "/v1/apps/{app}/keys", methods: &["post"], handlers: || post(apps::create_key) },
    Route { path: "/openapi.json", methods: &["get"], handlers: || get(docs::openapi) },
    Route { path: "/", methods: &["get"], handlers: || get(docs::page) },
    Route { path: "/docs", methods: &["get"], handlers: || get(docs::page_by_name) },
];

/// A gRPC client that asks for a service that is not here can read only a gRPC answer.
async fn no_route(headers: HeaderMap) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        tonic::Status::from(Error::NoRoute).into_http()
    } else {
        Error::NoRoute.into_response()
    }
}

/// Word of the error that a response tells, for the metrics.
#[derive(Clone)]
struct ErrorCode(std::borrow::Cow<'static, str>);

async fn count_error(State(ops): State<Arc<Ops>>, response: Response) -> Response {
    if let Some(ErrorCode(code)) = response.extensions().get() {
        ops.metrics().failed("http", code);
    }
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let facts = self.facts();
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (facts.status, json, error_json(&self, &facts)).into_response();
        if let Some(after) = facts.retry_after {
            // The header counts in seconds; rounded up, so that who obeys it is not refused again.
            let seconds = u64::from(whole_millis(after)).div_ceil(1000);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if facts.status == http::StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(ErrorCode(facts.code));
        response
    }
}

/// The form that every error has.
fn error_json(error: &Error, facts: &Facts) -> Vec<u8> {
    let message = error.to_string();
    let body = ErrorBody {
        error: ErrorFacts {
            code: &facts.code,
            message: &message,
            field: error.field(),
            retry_after_ms: facts.retry_after.map(whole_millis),
            progress: error.stopped().map(|stopped| ErrorProgress {
                id: MessageId(stopped.id),
                targets: stopped.targets,
                accepted: stopped.accepted,
            }),
        },
    };
    // Texts and numbers: writing them to memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests;
