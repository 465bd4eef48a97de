//! The admin port: health, readiness, metrics, log filter, CPU profile. No authentication: keep it private.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use cluster::{Me, NodeInfo, NodeState};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{AdminSettings, Metrics, StartError, profile, telemetry::LogFilter};

/// A profile longer than this would hold the profiler's memory for too long.
const MAX_PROFILE_SECONDS: u64 = 300;
const DEFAULT_PROFILE_SECONDS: u64 = 10;

/// The nodes of a process, whose readiness it tells. They may change; without any the process is not ready. Clones share
/// them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    nodes: Arc<RwLock<Vec<Arc<Me>>>>,
}

impl Readiness {
    /// These are the nodes from now on.
    pub fn set(&self, nodes: Vec<Arc<Me>>) {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    fn infos(&self) -> Vec<NodeInfo> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).iter().map(|me| me.info()).collect()
    }
}

impl From<Vec<Arc<Me>>> for Readiness {
    fn from(nodes: Vec<Arc<Me>>) -> Self {
        Self { nodes: Arc::new(RwLock::new(nodes)) }
    }
}

/// The admin port of a process, listening.
pub struct Admin {
    address: SocketAddr,
}

#[derive(Clone)]
struct Shared {
    nodes: Readiness,
    metrics: Metrics,
    log: LogFilter,
    profiler: profile::Profiler,
}

impl Admin {
    /// Listens until `cancel`; `nodes` are those whose readiness it tells.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(
        settings: &AdminSettings,
        nodes: impl Into<Readiness>,
        metrics: Metrics,
        log: LogFilter,
        tasks: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, StartError> {
        let fail =
            |source| StartError::Listen { key: "admin.listen".to_owned(), address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let app =
            router(Shared { nodes: nodes.into(), metrics, log, profiler: profile::Profiler::default() });
        tasks.spawn(async move {
            let serve = axum::serve(listener, app).with_graceful_shutdown(cancel.cancelled_owned());
            if let Err(error) = serve.await {
                tracing::error!(%error, "the admin port ended");
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/log", get(log_get).put(log_put))
        .route("/debug/pprof/profile", get(cpu_profile))
        .with_state(shared)
}

/// 200 when every node of the process serves; else 503. The body says which is in which state.
async fn ready(State(shared): State<Shared>) -> Response {
    let states = shared.nodes.infos();
    let all = !states.is_empty() && states.iter().all(|info| info.state == NodeState::Ready);
    let body: serde_json::Map<_, _> = states.iter().map(|i| (i.role.to_string(), json!(i.state))).collect();
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.encode())
}

async fn log_get(State(shared): State<Shared>) -> String {
    shared.log.get() + "\n"
}

async fn log_put(State(shared): State<Shared>, body: String) -> Response {
    match shared.log.set(body.trim()) {
        Ok(()) => (StatusCode::OK, shared.log.get() + "\n").into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, reason + "\n").into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileQuery {
    seconds: Option<u64>,
}

async fn cpu_profile(State(shared): State<Shared>, Query(query): Query<ProfileQuery>) -> Response {
    let seconds = query.seconds.unwrap_or(DEFAULT_PROFILE_SECONDS);
    if seconds == 0 || seconds > MAX_PROFILE_SECONDS {
        let reason = format!("seconds: must be 1 to {MAX_PROFILE_SECONDS}\n");
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    match shared.profiler.run(Duration::from_secs(seconds)).await {
        Ok(profile) => ([(header::CONTENT_TYPE, "application/octet-stream")], profile).into_response(),
        Err(reason) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use cluster::{Incarnation, NodeId, Role};
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn call(app: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn tells_readiness_metrics_and_the_filter() {
        let me = Arc::new(Me::new(Role::Room, NodeId(1), Incarnation(1), "z", None));
        let shared = Shared {
            nodes: vec![me.clone()].into(),
            metrics: Metrics::default(),
            log: LogFilter::detached(),
            profiler: profile::Profiler::default(),
        };
        let app = router(shared);
        assert_eq!(call(&app, "GET", "/healthz", "").await.0, StatusCode::OK);
        assert_eq!(call(&app, "GET", "/readyz", "").await.0, StatusCode::SERVICE_UNAVAILABLE);
        me.set_state(NodeState::Ready);
        assert_eq!(
            call(&app, "GET", "/readyz", "").await,
            (StatusCode::OK, b"{\"room\":\"ready\"}".to_vec())
        );
        assert_eq!(call(&app, "PUT", "/log", "room=debug").await.0, StatusCode::OK);
        assert_eq!(call(&app, "GET", "/log", "").await.1, b"room=debug\n");
        assert_eq!(call(&app, "PUT", "/log", "room=loud").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(call(&app, "GET", "/log", "").await.1, b"room=debug\n");
        assert!(call(&app, "GET", "/metrics", "").await.1.ends_with(b"# EOF\n"));
        assert_eq!(call(&app, "GET", "/debug/pprof/profile?seconds=0", "").await.0, StatusCode::BAD_REQUEST);
    }
}
