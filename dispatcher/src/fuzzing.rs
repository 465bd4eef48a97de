//! The decoders of the public port, for the fuzz targets.

use std::net::IpAddr;

use axum::{extract::Query as QueryString, http::Uri};

use crate::{
    config::ZonesConfig,
    error::RouteError,
    http::{Fields, parse},
    query::Query,
    zones::Zones,
};

/// Reads a query as `GET /v1/route` does.
///
/// # Errors
/// What the device would be told.
pub fn read(uri: &Uri, client: IpAddr) -> Result<Query, RouteError> {
    let fields =
        QueryString::<Fields>::try_from_uri(uri).map_err(|error| RouteError::Malformed(error.body_text()))?;
    parse(fields.0, client)
}

/// The client's address and its zone, from the peer's address and the headers `X-Forwarded-For`.
pub fn locate(config: &ZonesConfig, peer: IpAddr, forwarded: &[&str]) -> (IpAddr, String) {
    let zones = Zones::new(config, "own");
    let client = zones.client(peer, forwarded.iter().copied());
    (client, zones.of(client).to_owned())
}
