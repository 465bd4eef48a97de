//! The gRPC API: a thin translation to [`crate::ops`], which already speaks its messages.

mod lists;

use std::sync::Arc;

use axum::{extract::State, middleware};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::header::AUTHORIZATION;
use proto::v1::{
    self,
    admin_service_server::{AdminService, AdminServiceServer},
    push_service_server::{PushService, PushServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{
    error::{Error, Result},
    metered::Metered,
    ops::{Caller, Ops},
};

type Operation<Q, A> = for<'a> fn(&'a Ops, &'a Caller, Q) -> BoxFuture<'a, Result<A>>;
type Answer<T> = std::result::Result<Response<T>, Status>;

/// The one call whose request is a stream.
const STREAMED: &str = "/longwire.v1.PushService/MulticastStream";

/// Both services over one set of operations.
#[derive(Clone)]
struct Grpc {
    ops: Arc<Ops>,
}

/// Adds the gRPC services, and reflection, to a router.
pub(crate) fn add_to(
    router: axum::Router,
    ops: &Arc<Ops>,
) -> Result<axum::Router, tonic_reflection::server::Error> {
    let grpc = Grpc { ops: Arc::clone(ops) };
    let limit = ops.config().grpc_message_max_bytes;
    let push = PushServiceServer::new(grpc.clone()).max_decoding_message_size(limit);
    let admin = AdminServiceServer::new(grpc).max_decoding_message_size(limit);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
    };
    let services = axum::Router::new()
        .route_service("/longwire.v1.PushService/{method}", push)
        .route_service("/longwire.v1.AdminService/{method}", admin)
        .layer(middleware::from_fn_with_state(Arc::clone(ops), admit));
    let (bodies, patience) = (ops.bodies().clone(), ops.config().body_timeout);
    // A few more than the longest list: the other fields of its message.
    let entries = ops.config().batch_max_pushes.max(ops.config().multicast_max_uids) + 64;
    let metered = middleware::map_request(move |request: axum::extract::Request| {
        let bodies = bodies.clone();
        async move {
            // A streamed list has as many messages as it likes, each within the bounds.
            let streamed = request.uri().path() == STREAMED;
            request.map(|body| Metered::wrap(body, bodies, entries, patience, streamed))
        }
    });
    let grpc = services
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", reflection().build_v1()?)
        // Tools of some years ago ask for the draft of it.
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", reflection().build_v1alpha()?)
        .layer(metered);
    Ok(router.merge(grpc))
}

/// Finds out who calls before a byte of the body is read: who has no key makes the center hold nothing.
async fn admit(
    State(ops): State<Arc<Ops>>,
    mut request: axum::extract::Request,
    next: middleware::Next,
) -> axum::response::Response {
    match ops.authenticate(request.headers().get(AUTHORIZATION)).await {
        Ok(caller) => {
            // Shared, because what goes with a request has to be clonable; nobody clones it.
            request.extensions_mut().insert(Arc::new(caller));
            next.run(request).await
        }
        Err(error) => {
            ops.metrics().failed("grpc", &error.facts().code);
            Status::from(error).into_http()
        }
    }
}

impl Grpc {
    /// Does what the caller asks for. Operations come boxed, so that the code of their states is made once, and
    /// not again in each layer of tonic and axum around them.
    async fn run<Q: prost::Message, A>(
        &self,
        mut request: Request<Q>,
        operation: Operation<Q, A>,
    ) -> Answer<A> {
        let caller = request.extensions_mut().remove::<Arc<Caller>>();
        let done = async {
            // Nobody gets here but past `admit`.
            let caller = caller.ok_or(Error::NoKey)?;
            let request = request.into_inner();
            // While it arrived its bytes were counted by `Metered`.
            let _held = self.ops.bodies().take(request.encoded_len())?;
            operation(&self.ops, &caller, request).await
        };
        done.await.map(Response::new).map_err(|error| self.refuse(error))
    }

    fn refuse(&self, error: Error) -> Status {
        self.ops.metrics().failed("grpc", &error.facts().code);
        error.into()
    }
}

#[tonic::async_trait]
impl PushService for Grpc {
    type ListTargetsStream = lists::Targets;
    type WatchBroadcastStream = std::pin::Pin<
        Box<dyn futures::Stream<Item = Result<proto::v1::BroadcastState, tonic::Status>> + Send>,
    >;

    async fn multicast_stream(
        &self,
        request: Request<tonic::Streaming<v1::MulticastChunk>>,
    ) -> Answer<v1::MulticastResponse> {
        self.upload(request).boxed().await
    }

    async fn list_targets(&self, request: Request<v1::ListTargetsRequest>) -> Answer<lists::Targets> {
        self.targets(request).boxed().await
    }

    async fn watch_broadcast(
        &self,
        request: Request<v1::GetBroadcastRequest>,
    ) -> Answer<Self::WatchBroadcastStream> {
        let watch =
            self.run(request, |ops, caller, request| ops.watch_broadcast(caller, request).boxed()).await?;
        Ok(watch
            .map(|watch| Box::pin(futures::StreamExt::map(watch.states(), Ok)) as Self::WatchBroadcastStream))
    }

    async fn preview_broadcast(
        &self,
        request: Request<v1::BroadcastRequest>,
    ) -> Answer<v1::BroadcastPreview> {
        self.run(request, |ops, caller, request| ops.preview_broadcast(caller, request).boxed()).await
    }

    async fn control_broadcast(
        &self,
        request: Request<v1::ControlBroadcastRequest>,
    ) -> Answer<v1::BroadcastState> {
        self.run(request, |ops, caller, request| ops.control_broadcast(caller, request).boxed()).await
    }

    async fn list_broadcasts(
        &self,
        request: Request<v1::ListBroadcastsRequest>,
    ) -> Answer<v1::ListBroadcastsResponse> {
        self.run(request, |ops, caller, request| ops.list_broadcasts(caller, request).boxed()).await
    }

    async fn list_scheduled(
        &self,
        request: Request<v1::ListScheduledRequest>,
    ) -> Answer<v1::ListScheduledResponse> {
        self.run(request, |ops, caller, request| ops.list_scheduled(caller, request).boxed()).await
    }

    async fn cancel_scheduled(
        &self,
        request: Request<v1::CancelScheduledRequest>,
    ) -> Answer<v1::CancelScheduledResponse> {
        self.run(request, |ops, caller, request| ops.cancel_scheduled(caller, request).boxed()).await
    }

    async fn push(&self, request: Request<v1::PushRequest>) -> Answer<v1::PushResponse> {
        self.run(request, |ops, caller, push| ops.push(caller, push).boxed()).await
    }

    async fn push_batch(&self, request: Request<v1::PushBatchRequest>) -> Answer<v1::PushBatchResponse> {
        self.run(request, |ops, caller, batch| push_batch(ops, caller, batch).boxed()).await
    }

    async fn multicast(&self, request: Request<v1::MulticastRequest>) -> Answer<v1::MulticastResponse> {
        self.run(request, |ops, caller, mut request: v1::MulticastRequest| {
            // As decoded it shares the buffer of the whole list, which messages waiting for delivery would keep.
            request.payload = Bytes::copy_from_slice(&request.payload);
            ops.multicast(caller, request).boxed()
        })
        .await
    }

    async fn broadcast(&self, request: Request<v1::BroadcastRequest>) -> Answer<v1::BroadcastResponse> {
        self.run(request, |ops, caller, request| ops.broadcast(caller, request).boxed()).await
    }

    async fn recall(&self, request: Request<v1::RecallRequest>) -> Answer<v1::RecallResponse> {
        self.run(request, |ops, caller, request| ops.recall(caller, request).boxed()).await
    }

    async fn get_message(&self, request: Request<v1::GetMessageRequest>) -> Answer<v1::MessageLedger> {
        self.run(request, |ops, caller, request| ops.message(caller, request).boxed()).await
    }

    async fn get_broadcast(&self, request: Request<v1::GetBroadcastRequest>) -> Answer<v1::BroadcastState> {
        self.run(request, |ops, caller, request| ops.broadcast_state(caller, request).boxed()).await
    }

    async fn get_user(&self, request: Request<v1::GetUserRequest>) -> Answer<v1::UserState> {
        self.run(request, |ops, caller, request| ops.user(caller, request).boxed()).await
    }

    async fn kick(&self, request: Request<v1::KickRequest>) -> Answer<v1::KickResponse> {
        self.run(request, |ops, caller, request| ops.kick(caller, request).boxed()).await
    }

    async fn issue_token(&self, request: Request<v1::IssueTokenRequest>) -> Answer<v1::IssueTokenResponse> {
        self.run(request, |ops, caller, request| ops.issue_token(caller, request).boxed()).await
    }
}

#[tonic::async_trait]
impl AdminService for Grpc {
    async fn create_app(&self, request: Request<v1::CreateAppRequest>) -> Answer<v1::CreateAppResponse> {
        self.run(request, |ops, caller, request| ops.create_app(caller, request).boxed()).await
    }

    async fn update_app(&self, request: Request<v1::UpdateAppRequest>) -> Answer<v1::AppInfo> {
        self.run(request, |ops, caller, request| ops.update_app(caller, request).boxed()).await
    }

    async fn get_app(&self, request: Request<v1::GetAppRequest>) -> Answer<v1::AppInfo> {
        self.run(request, |ops, caller, request| ops.show_app(caller, request).boxed()).await
    }

    async fn list_apps(&self, request: Request<v1::ListAppsRequest>) -> Answer<v1::ListAppsResponse> {
        self.run(request, |ops, caller, _| ops.list_apps(caller).boxed()).await
    }

    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::CreateKeyResponse> {
        self.run(request, |ops, caller, request| ops.create_key(caller, request).boxed()).await
    }
}

async fn push_batch(
    ops: &Ops,
    caller: &Caller,
    batch: v1::PushBatchRequest,
) -> Result<v1::PushBatchResponse> {
    let done = ops.push_batch(caller, batch.pushes).await?;
    let results = done.into_iter().map(|result| one_of_many(ops, result)).collect();
    Ok(v1::PushBatchResponse { results })
}

fn one_of_many(ops: &Ops, result: Result<v1::PushResponse>) -> v1::PushResult {
    let result = match result {
        Ok(done) => v1::push_result::Result::Ok(done),
        Err(error) => {
            ops.metrics().failed("grpc", &error.facts().code);
            v1::push_result::Result::Error(error.to_failure())
        }
    };
    v1::PushResult { result: Some(result) }
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
