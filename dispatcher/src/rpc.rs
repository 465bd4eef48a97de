//! The gRPC service `Router`: thin translation, no logic.

use std::{net::Ipv4Addr, time::Instant};

use proto::v1::{self, router_server::Router};
use tonic::{Request, Response, Status};

use crate::{Shared, http::PeerAddress, query::Query};

pub(crate) struct RouterRpc(pub(crate) Shared);

#[tonic::async_trait]
impl Router for RouterRpc {
    async fn route(&self, request: Request<v1::RouteRequest>) -> Result<Response<v1::RouteResponse>, Status> {
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0.ip());
        let forwarded = request.metadata().get_all("x-forwarded-for");
        // Without a peer the call came from inside this process.
        let peer = peer.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let client = self.0.client(peer, forwarded.iter().filter_map(|v| v.to_str().ok()));
        let asked = request.into_inner();
        let query = Query::parse(&asked.uid, &asked.network, asked.tried, client);
        let route = self.0.answer(query, Instant::now())?;
        let endpoints =
            route.endpoints.into_iter().map(|e| v1::Endpoint { address: e.address, zone: e.zone });
        Ok(Response::new(v1::RouteResponse {
            endpoints: endpoints.collect(),
            connect_after_ms: route.connect_after.as_millis() as u32,
        }))
    }
}
