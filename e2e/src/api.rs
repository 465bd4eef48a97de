//! The HTTP API, as a backend calls it.

use std::{sync::Once, time::Duration};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// An HTTP client for plain text and TLS.
pub fn http() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().timeout(Duration::from_secs(10)).build().expect("a client needs nothing that could be missing")
}

/// The API of one center, called with one key.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: Client,
    base: String,
    key: String,
}

/// A status and the JSON that came with it.
pub type Answer = (StatusCode, Value);

impl ApiClient {
    /// Calls `base` with `key`.
    pub fn new(base: &str, key: &str) -> Self {
        Self { http: http(), base: base.to_owned(), key: key.to_owned() }
    }

    /// The same center, another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request, not sent yet.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// GET.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Pushes a text to a user of the demo app; gives the message id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn push(&self, uid: &str, text: &str) -> anyhow::Result<String> {
        let (status, body) = self.post("/v1/push", &json!({ "uid": uid, "payload": text })).await?;
        anyhow::ensure!(status.is_success(), "push: {status} {body}");
        Ok(body["id"].as_str().unwrap_or_default().to_owned())
    }

    /// A device token of the key's app.
    ///
    /// # Errors
    /// When it is not issued.
    pub async fn token(&self, app: &str, uid: &str) -> anyhow::Result<String> {
        let (status, body) = self.post("/v1/tokens", &json!({ "app": app, "uid": uid })).await?;
        anyhow::ensure!(status.is_success(), "token: {status} {body}");
        Ok(body["token"].as_str().unwrap_or_default().to_owned())
    }
}
