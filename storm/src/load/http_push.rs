//! Pushes over HTTP, one request each, for comparison with gRPC's batches.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, stream};
use proto::v1;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::http;

/// Requests of one batch that are under way at once.
const AT_ONCE: usize = 64;

#[derive(Serialize)]
struct Body<'a> {
    app: &'a str,
    uid: &'a str,
    payload_base64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    transient: bool,
}

#[derive(Deserialize)]
struct Pushed {
    id: String,
    outcome: String,
    seq: u64,
    repeated: bool,
}

#[derive(Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    message: String,
    #[serde(default)]
    retry_after_ms: u32,
}

pub(super) struct HttpPush {
    client: reqwest::Client,
    urls: Vec<String>,
}

impl HttpPush {
    pub(super) fn new(centers: &[String], key: &str) -> anyhow::Result<Self> {
        let urls = centers.iter().map(|base| format!("{}/v1/push", base.trim_end_matches('/'))).collect();
        Ok(Self { client: http::client(Some(key))?, urls })
    }

    pub(super) async fn push(&self, pushes: Vec<v1::PushRequest>) -> Vec<Result<v1::PushResponse, Failure>> {
        let each = pushes.into_iter().enumerate().map(|(n, push)| self.one(n, push));
        stream::iter(each).buffered(AT_ONCE).collect().await
    }

    async fn one(&self, n: usize, push: v1::PushRequest) -> Result<v1::PushResponse, Failure> {
        let body = Body {
            app: &push.app,
            uid: &push.uid,
            payload_base64: STANDARD.encode(&push.payload),
            ttl_s: push.ttl_s,
            transient: push.transient,
        };
        let mut request = self.client.post(&self.urls[n % self.urls.len()]).json(&body);
        if !push.idempotency_key.is_empty() {
            request = request.header("Idempotency-Key", &push.idempotency_key);
        }
        let lost = |error: reqwest::Error| Failure::unanswered(&error.to_string());
        let answer = request.send().await.map_err(lost)?;
        let success = answer.status().is_success();
        let status = answer.status();
        let body = answer.bytes().await.map_err(lost)?;
        if success {
            let legible = || Failure::unanswered("the center's answer is not legible");
            let pushed: Pushed = serde_json::from_slice(&body).map_err(|_| legible())?;
            let outcome = match pushed.outcome.as_str() {
                "sent" => v1::Outcome::Sent,
                "offline" => v1::Outcome::Offline,
                _ => v1::Outcome::Stored,
            };
            let id = pushed.id.parse().map_err(|_| legible())?;
            return Ok(v1::PushResponse {
                id,
                outcome: outcome.into(),
                seq: pushed.seq,
                repeated: pushed.repeated,
            });
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(Refusal { error }) => {
                Err(Failure::from_word(&error.code, &error.message, error.retry_after_ms))
            }
            Err(_) => Err(Failure::unanswered(&format!("status {status}"))),
        }
    }
}
