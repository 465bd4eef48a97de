//! The decoders of the HTTP API, for the fuzz targets.

use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;
use proto::v1;

use super::{
    broadcast_body::{BroadcastBody, BroadcastPatch},
    extract::{idempotency_key, parse},
    sending::{MulticastBody, PushBody},
    types::{AppPatch, NewAppBody, NewKeyBody, TokenBody},
};
use crate::{auth, error::Result};

/// Reads a request as the route that `route` chooses would, up to where the operations begin. Answers the request, as
/// protobuf.
///
/// # Errors
/// What the caller would be told.
pub fn read(route: u8, headers: &[(&'static str, &[u8])], body: &[u8]) -> Result<Vec<u8>> {
    let value = |bytes| HeaderValue::from_bytes(bytes).ok();
    let headers: HeaderMap = headers
        .iter()
        .filter_map(|(name, bytes)| Some((header::HeaderName::from_static(name), value(bytes)?)))
        .collect();
    auth::bearer(headers.get(header::AUTHORIZATION))?;
    let key = idempotency_key(&headers)?;
    Ok(match route % 8 {
        0 => parse::<PushBody>(body)?.into_request(key)?.encode_to_vec(),
        1 => parse::<MulticastBody>(body)?.into_request(key)?.encode_to_vec(),
        2 => parse::<BroadcastBody>(body)?.into_request(key)?.encode_to_vec(),
        3 => v1::IssueTokenRequest::from(parse::<TokenBody>(body)?).encode_to_vec(),
        4 => v1::CreateAppRequest::from(parse::<NewAppBody>(body)?).encode_to_vec(),
        5 => parse::<AppPatch>(body)?.into_request(key).encode_to_vec(),
        6 => {
            let BroadcastPatch { action, users_per_second } = parse(body)?;
            v1::ControlBroadcastRequest { app: key, id: 0, action, users_per_second }.encode_to_vec()
        }
        _ => {
            let scopes = parse::<NewKeyBody>(body)?.scopes;
            v1::CreateKeyRequest { app: key, scopes }.encode_to_vec()
        }
    })
}
