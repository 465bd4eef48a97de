//! The API's own description: a document for programs, a page for people.

use std::sync::LazyLock;

use axum::response::Html;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::openapi;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().into());

/// The page fetches nothing but this API, and nobody may frame it: a key is typed into it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// The OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs", responses((status = 200, content_type = "application/json")))]
pub(super) async fn openapi() -> ([(HeaderName, HeaderValue); 1], Bytes) {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], DOCUMENT.clone())
}

/// A page to read and try the API.
#[utoipa::path(get, path = "/", tag = "docs", responses((status = 200, content_type = "text/html")))]
pub(super) async fn page() -> ([(HeaderName, HeaderValue); 1], Html<&'static str>) {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("docs.html")))
}

/// The same page.
#[utoipa::path(get, path = "/docs", tag = "docs", responses((status = 200, content_type = "text/html")))]
pub(super) async fn page_by_name() -> ([(HeaderName, HeaderValue); 1], Html<&'static str>) {
    page().await
}
