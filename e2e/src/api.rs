//! The HTTP API, as a backend calls it.

use std::{sync::Once, time::Duration};

use anyhow::Context as _;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{eventually, external};

/// An HTTP client for plain text and TLS.
pub fn http() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client needs nothing that could be missing")
}

/// The API of one center, called with one key.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: Client,
    base: String,
    key: String,
}

/// An app that a test made.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The API with its first key: scopes push and read.
    pub api: ApiClient,
    /// Signs device tokens.
    pub secret: String,
    /// Signs webhooks.
    pub webhook_secret: String,
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

    /// The key it calls with.
    pub fn key(&self) -> String {
        self.key.clone()
    }

    /// A request, not sent yet.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{}", self.base, external::path(path))).bearer_auth(&self.key)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await?;
        let status = response.status();
        let text = external::answer(response.text().await?);
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path).json(&*external::request(body))).await
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

    /// The user's state.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn user(&self, uid: &str) -> anyhow::Result<Value> {
        self.told(self.get(&format!("/v1/users/{uid}")).await?)
    }

    /// Messages that wait for the user.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn depth(&self, uid: &str) -> anyhow::Result<u64> {
        self.user(uid).await?["inbox_depth"].as_u64().context("no inbox_depth")
    }

    /// The ledger of a message. It must balance.
    ///
    /// # Errors
    /// When it is not told or does not balance.
    pub async fn ledger(&self, id: &str) -> anyhow::Result<Value> {
        let ledger = self.told(self.get(&format!("/v1/messages/{id}")).await?)?;
        let count = |name: &str| ledger[name].as_u64().unwrap_or(0);
        let dropped: u64 =
            ledger["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let sum = count("acked") + count("stored") + count("expired") + dropped + count("recalled");
        anyhow::ensure!(count("targets") == sum, "the ledger does not balance: {ledger}");
        Ok(ledger)
    }

    /// Looks until the ledger shows this count, e.g. `acked`, or `dropped/inbox_full`.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn ledger_shows(&self, id: &str, field: &str, count: u64) -> anyhow::Result<()> {
        let pointer = format!("/{field}");
        eventually(&format!("{field} = {count} in the ledger of {id}"), Duration::from_secs(15), async || {
            let ledger = self.ledger(id).await?;
            let shown = ledger.pointer(&pointer).and_then(Value::as_u64).unwrap_or(0);
            anyhow::ensure!(shown == count, "{ledger}");
            Ok(())
        })
        .await
    }

    /// Looks until so many messages wait for the user.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn depth_becomes(&self, uid: &str, depth: u64) -> anyhow::Result<()> {
        eventually(&format!("inbox depth {depth} of {uid}"), Duration::from_secs(15), async || {
            let found = self.depth(uid).await?;
            anyhow::ensure!(found == depth, "it is {found}");
            Ok(())
        })
        .await
    }

    /// Looks until the user is online, or is not.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn online_becomes(&self, uid: &str, online: bool) -> anyhow::Result<Value> {
        eventually(&format!("{uid} online: {online}"), Duration::from_secs(20), async || {
            let user = self.user(uid).await?;
            anyhow::ensure!(user["online"] == online && user["rebuilding"] == false, "{user}");
            Ok(user)
        })
        .await
    }

    /// A broadcast; gives its id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn broadcast(&self, text: &str, audience: &str) -> anyhow::Result<String> {
        let body =
            self.told(self.post("/v1/broadcasts", &json!({ "payload": text, "audience": audience })).await?)?;
        Ok(body["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Broadcasts with these fields; gives the message id.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn broadcast_with(&self, body: &Value) -> anyhow::Result<String> {
        let answer = self.told(self.post("/v1/broadcasts", body).await?)?;
        answer["id"].as_str().map(str::to_owned).with_context(|| format!("no id: {answer}"))
    }

    /// The state of a broadcast. Its ledger must balance, unless rooms did not answer.
    ///
    /// # Errors
    /// When it is not told, or does not balance.
    pub async fn state(&self, id: &str) -> anyhow::Result<Value> {
        let state = self.told(self.get(&format!("/v1/broadcasts/{id}")).await?)?;
        let count = |name: &str| state[name].as_u64().unwrap_or(0);
        let dropped: u64 =
            state["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let sum = count("acked") + count("stored") + count("expired") + dropped + count("recalled_users");
        anyhow::ensure!(count("targets") == sum, "the ledger does not balance: {state}");
        Ok(state)
    }

    /// Looks until the state of a broadcast has these fields.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn state_shows(&self, id: &str, fields: &Value) -> anyhow::Result<Value> {
        eventually(&format!("{fields} in the state of {id}"), Duration::from_secs(20), async || {
            let state = self.state(id).await?;
            let differs = fields.as_object().into_iter().flatten().any(|(name, value)| state[name] != *value);
            anyhow::ensure!(!differs, "{state}");
            Ok(state)
        })
        .await
    }

    /// Pauses, resumes or cancels a broadcast, or changes its speed; its state.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn control(&self, id: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, &format!("/v1/broadcasts/{id}"));
        self.told(self.send(request.json(&*external::request(body))).await?)
    }

    /// Takes a message back; what the API says.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn recall(&self, id: &str) -> anyhow::Result<Value> {
        self.told(self.delete(&format!("/v1/messages/{id}")).await?)
    }

    /// Ends the user's binding; whether it was online.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn kick(&self, uid: &str) -> anyhow::Result<bool> {
        let answer = self.told(self.post(&format!("/v1/users/{uid}/kick"), &json!({})).await?)?;
        answer["was_online"].as_bool().context("no was_online")
    }

    /// Creates an app; `extra` are fields of the call besides its name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_app(&self, name: &str, mut extra: Value) -> anyhow::Result<App> {
        extra["app"] = json!(name);
        let made = self.told(self.post("/v1/apps", &extra).await?)?;
        let text = |field: &str| {
            made[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {made}"))
        };
        Ok(App {
            name: name.to_owned(),
            api: self.with_key(&text("key")?),
            secret: text("secret")?,
            webhook_secret: text("webhook_secret")?,
        })
    }

    /// The body of an answer that must be a good one.
    ///
    /// # Errors
    /// When it is not.
    pub fn told(&self, (status, body): Answer) -> anyhow::Result<Value> {
        anyhow::ensure!(status.is_success(), "{}: {status} {body}", self.base);
        Ok(body)
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
