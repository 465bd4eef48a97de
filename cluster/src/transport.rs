//! How a node is called: over the network, or straight into a service of this process. The generated clients
//! take either, so no service knows which it has.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, StdError},
    service::Routes,
    transport::{Channel, Endpoint},
};

use crate::{NodeId, Role, Tls, tls::Connector};

/// A connection that cannot be made in this time counts as unavailable; within a zone a SYN takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that vanished without a word is noticed after interval + time-out, so 15 s at most.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Flow-control windows that hold a full batch, and several: what a peer may have answered that nobody has looked at yet.
/// They are a part of each process's bound on memory.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The gRPC services of this process, by node. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct LocalServices {
    routes: Arc<RwLock<HashMap<NodeId, Routes>>>,
}

impl LocalServices {
    /// Makes a node's services callable.
    pub fn insert(&self, node: NodeId, routes: Routes) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(node, routes);
    }

    /// Calls to the node fail as unavailable from now on.
    pub fn remove(&self, node: NodeId) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    fn get(&self, node: NodeId) -> Option<Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}

/// What a generated gRPC client is made on. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Transport(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Channel(Channel),
    Local(NodeId, LocalServices),
}

impl Transport {
    /// To a node elsewhere: one HTTP/2 connection, made at the first call and made again when it breaks. Over `tls` it must
    /// be a node of the `role`.
    ///
    /// # Errors
    /// When the address is not `host:port`.
    pub fn connect(address: &str, role: Role, tls: Option<&Tls>) -> Result<Self, tonic::transport::Error> {
        let endpoint = Self::endpoint(address)?;
        Ok(Self(Kind::Channel(match tls {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(Connector::new(address, role, tls.clone())),
        })))
    }

    /// The same in plaintext.
    ///
    /// # Errors
    /// When the address is not `host:port`.
    pub fn connect_lazy(address: &str) -> Result<Self, tonic::transport::Error> {
        Ok(Self(Kind::Channel(Self::endpoint(address)?.connect_lazy())))
    }

    /// The scheme says nothing of TLS: tonic would bring its own to `https`.
    fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
        Ok(Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW))
    }

    /// To a node of this process. It may be called before the node is there: the call then fails as unavailable.
    pub fn local(node: NodeId, services: LocalServices) -> Self {
        Self(Kind::Local(node, services))
    }
}

/// A node that speaks TLS turns a plaintext caller away with a reason of HTTP/2's own, which nobody would understand.
fn plain(error: StdError) -> StdError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(next) = cause {
        let reason = next.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        if reason == Some(h2::Reason::INADEQUATE_SECURITY) {
            return Status::unavailable("it is configured for TLS, and we are for plaintext").into();
        }
        cause = next.source();
    }
    error
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.0 {
            Kind::Channel(channel) => channel.poll_ready(cx).map_err(Into::into),
            // An in-process service is always ready: its bounds are those of its task pools.
            Kind::Local(..) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match &mut self.0 {
            Kind::Channel(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(|error| plain(error.into())) })
            }
            Kind::Local(node, services) => match services.get(*node) {
                Some(mut routes) => {
                    let answer = routes.call(request);
                    Box::pin(async move {
                        match answer.await {
                            Ok(response) => Ok(response.map(Body::new)),
                            Err(never) => match never {},
                        }
                    })
                }
                None => {
                    let node = *node;
                    Box::pin(
                        async move { Err(Status::unavailable(format!("node {node} is not running")).into()) },
                    )
                }
            },
        }
    }
}
