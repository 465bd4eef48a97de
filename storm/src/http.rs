//! The HTTP client of a storm.

use std::{sync::Once, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::{Deserialize, de::DeserializeOwned};

/// A center or dispatcher that has not answered by then counts as failed. Longer than their own time-outs.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// A client that sends the API key, if there is one, with every request.
///
/// # Errors
/// If the key cannot be a header's value.
pub fn client(key: Option<&str>) -> anyhow::Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    // Fails if the program has installed one already, which is just as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {key}")).context("the API key is not legible")?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    reqwest::Client::builder()
        .default_headers(headers)
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(64)
        .no_proxy()
        .build()
        .context("building the HTTP client")
}

#[derive(Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    message: String,
}

/// The body of an answer, or the error that it tells.
///
/// # Errors
/// If the status is no success or the body is not what was expected.
pub async fn read<T: DeserializeOwned>(answer: reqwest::Response) -> anyhow::Result<T> {
    let (status, path) = (answer.status(), answer.url().path().to_owned());
    let body = answer.bytes().await?;
    if !status.is_success() {
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => bail!("{path}: {status}: {} ({})", refusal.error.message, refusal.error.code),
            Err(_) => bail!("{path}: {status}"),
        }
    }
    serde_json::from_slice(&body).with_context(|| format!("{path} answered something unexpected"))
}
