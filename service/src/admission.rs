//! Bounds what other nodes may have this one hold: the bytes of their requests, from the first frame until the answer.
//!
//! Each caller bounds what it sends, but nobody bounds how many callers there are. A request that would go over the bound
//! fails with RESOURCE_EXHAUSTED and a time to come back, before it is decoded; callers try again by themselves.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use http_body::{Frame, SizeHint};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tonic::{Status, service::Routes};

/// What is advised: requests are done within milliseconds unless something stalls.
const COME_BACK_MS: u64 = 200;

/// The bytes of requests under way, and their bound. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limit: usize,
    held: Arc<AtomicUsize>,
    bytes: Gauge,
    refused: Counter,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default(), bytes: Gauge::default(), refused: Counter::default() }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "request_bytes",
            "Bytes of requests of other nodes that are being taken or answered",
            self.bytes.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests of other nodes that met the bound on their bytes; they are told to come back",
            self.refused.clone(),
        );
    }

    /// The same services, within the bound.
    pub(crate) fn guard(self, routes: Routes) -> Routes {
        routes.into_axum_router().layer(middleware::from_fn_with_state(self, admit)).into()
    }
}

/// A request's part, given back when the request has been answered.
struct Share {
    of: Admission,
    bytes: AtomicUsize,
}

impl Share {
    /// Takes so much more. A request that is larger than the bound is taken when there is no other.
    fn grow(&self, bytes: usize) -> Result<(), Status> {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.of.held.fetch_add(bytes, Ordering::Relaxed);
        self.of.bytes.inc_by(bytes as i64);
        if before.saturating_add(bytes) <= self.of.limit || before == own {
            return Ok(());
        }
        self.of.refused.inc();
        let mut status = Status::resource_exhausted("more requests are under way than this node may hold");
        status.metadata_mut().insert("retry-after-ms", COME_BACK_MS.into());
        Err(status)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.of.held.fetch_sub(bytes, Ordering::Relaxed);
        self.of.bytes.dec_by(bytes as i64);
    }
}

async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let share = Arc::new(Share { of: admission, bytes: AtomicUsize::new(0) });
    let counted = Arc::clone(&share);
    let request = request.map(|body| Body::new(Counted { body, share: counted }));
    let response = next.run(request).await;
    drop(share);
    response
}

/// A body whose bytes are counted as they come.
struct Counted {
    body: Body,
    share: Arc<Share>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            self.share.grow(data.len())?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::{Router, routing::post};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn request(path: &str, bytes: usize) -> Request {
        Request::post(path).body(Body::from(vec![b'x'; bytes])).unwrap()
    }

    /// Ten bytes at most; `/stall` never answers, `/read` says how much it was given.
    fn routes() -> (Admission, Router) {
        let admission = Admission::new(10);
        let read = async |body: Body| match body.collect().await {
            Ok(whole) => whole.to_bytes().len().to_string(),
            Err(error) => {
                let status = Status::from_error(Box::new(error));
                format!("{:?} {:?}", status.code(), status.metadata().get("retry-after-ms"))
            }
        };
        let stall = async |body: Body| {
            let _whole = body.collect().await;
            pending::<String>().await
        };
        let router: Router = Router::new().route("/read", post(read)).route("/stall", post(stall));
        (admission.clone(), admission.guard(router.into()).into_axum_router())
    }

    async fn told(router: &Router, bytes: usize) -> String {
        let answer = router.clone().oneshot(request("/read", bytes)).await.unwrap();
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_stalls_holds_its_bytes_and_the_rest_is_told_to_come_back() {
        let (admission, router) = routes();
        assert_eq!(told(&router, 10).await, "10");
        assert_eq!(told(&router, 25).await, "25", "one alone may be larger");
        let stalled = tokio::spawn(router.clone().oneshot(request("/stall", 6)));
        while admission.held.load(Ordering::Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(&router, 4).await, "4");
        assert_eq!(told(&router, 5).await, "ResourceExhausted Some(\"200\")");
        assert_eq!((admission.refused.get(), admission.bytes.get()), (1, 6));
        stalled.abort();
        let _ = stalled.await;
        assert_eq!(told(&router, 5).await, "5", "what is over is given back at once");
        assert_eq!(admission.held.load(Ordering::Relaxed), 0);
    }
}
