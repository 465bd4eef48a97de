//! The HTTP API through its router, over fakes of the other services.

mod broadcasting;
mod later;
mod lists;
mod managing;
mod pushing;
mod refusing;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use proto::internal;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::Config,
    testing::{ADMIN_KEY, DEMO_KEY, OTHER_KEY, READ_KEY, TestCenter},
};

struct Api {
    center: TestCenter,
    router: Router,
}

struct Answer {
    text: String,
    status: u16,
    headers: http::HeaderMap,
    json: Value,
}

impl Answer {
    fn error(&self) -> (u16, &str, &str) {
        let error = &self.json["error"];
        (self.status, error["code"].as_str().unwrap_or_default(), error["field"].as_str().unwrap_or_default())
    }
}

impl Api {
    async fn start() -> Api {
        Api::with(Config::default()).await
    }

    async fn with(config: Config) -> Api {
        let center = TestCenter::start(config).await;
        let router = router(Arc::clone(&center.ops));
        Api { center, router }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { text, status: parts.status.as_u16(), headers: parts.headers, json }
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Value) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(DEMO_KEY, Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(DEMO_KEY, Method::GET, path, Value::Null).await
    }

    async fn push_with_key(&self, idempotency_key: &str, body: Value) -> Answer {
        let request = Request::post("/v1/push")
            .header("authorization", format!("Bearer {DEMO_KEY}"))
            .header("idempotency-key", idempotency_key);
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Waits for what happens after an answer.
    async fn until(&self, done: impl Fn(&crate::testing::State) -> bool) {
        let wait = async {
            while !done(&self.center.fakes.state()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("it happens");
    }
}
