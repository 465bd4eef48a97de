//! `GET /v1/route`: thin translation to and from HTTP, no logic.

use std::{net::SocketAddr, time::Instant};

use axum::{
    Extension, Json, Router,
    extract::{Query as QueryString, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{Shared, error::RouteError, query::Query};

/// Address of the client's end of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/route", get(route))
        .fallback(nothing_here)
        .method_not_allowed_fallback(async || RouteError::NoSuchMethod)
        .with_state(shared)
}

/// gRPC clients call by POST and want a gRPC status, everybody else JSON.
async fn nothing_here(headers: HeaderMap) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.starts_with("application/grpc") {
        return tonic::Status::unimplemented("no such service or method").into_http();
    }
    RouteError::NoSuchPath.into_response()
}

pub(crate) type Fields = Vec<(String, String)>;

async fn route(
    State(shared): State<Shared>,
    Extension(PeerAddress(peer)): Extension<PeerAddress>,
    headers: HeaderMap,
    fields: Result<QueryString<Fields>, QueryRejection>,
) -> Response {
    let client =
        shared.client(peer.ip(), headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()));
    let query = fields
        .map_err(|error| RouteError::Malformed(error.body_text()))
        .and_then(|QueryString(fields)| parse(fields, client));
    let mut response = match shared.answer(query, Instant::now()) {
        Ok(route) => {
            let endpoints: Vec<_> =
                route.endpoints.iter().map(|e| json!({"address": e.address, "zone": e.zone})).collect();
            let after = route.connect_after.as_millis() as u64;
            Json(json!({"endpoints": endpoints, "connect_after_ms": after})).into_response()
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // SDKs in browsers ask from the pages of any app; the answer holds no secret.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Fields that are not known are passed over: a newer SDK may say more.
pub(crate) fn parse(fields: Fields, client: std::net::IpAddr) -> Result<Query, RouteError> {
    let (mut uid, mut network, mut tried) = (None, None, Vec::new());
    let once = |slot: &mut Option<String>, field, value| match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(RouteError::Invalid { field, message: format!("{field} is given twice") }),
    };
    for (name, value) in fields {
        match name.as_str() {
            "uid" => once(&mut uid, "uid", value)?,
            "network" => once(&mut network, "network", value)?,
            "tried" => {
                let addresses = value.split(',').map(str::trim).filter(|a| !a.is_empty());
                tried.extend(addresses.map(str::to_owned));
            }
            _ => {}
        }
    }
    Query::parse(uid.as_deref().unwrap_or(""), network.as_deref().unwrap_or(""), tried, client)
}
