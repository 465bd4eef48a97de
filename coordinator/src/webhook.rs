//! One signed request to a backend.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, Response, StatusCode, header, redirect};
use sha2::Sha256;

use crate::config::WebhookConfig;

/// Signature of time and body; a backend refuses what is old or does not match.
pub const SIGNATURE_HEADER: &str = "longwire-signature";
/// The event's id: the same in a repeat.
pub const ID_HEADER: &str = "longwire-id";
/// Of an answer so much is read, so that the connection can be used again; a longer one ends it.
const READ_OF_ANSWER: usize = 64 << 10;
/// A backend may not push its events further away than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Where an app wants its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The app's key.
    pub(crate) app: String,
    pub(crate) url: String,
    pub(crate) secret: String,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 2xx.
    Delivered,
    /// The backend answers, and does not want this event.
    Refused(StatusCode),
    /// The backend is not in a state to take anything.
    Failed { why: String, retry_after: Option<Duration> },
}

/// Makes the requests. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    client: Client,
}

impl Webhooks {
    pub(crate) fn new(config: &WebhookConfig, workers_per_app: usize) -> Result<Webhooks, reqwest::Error> {
        // Another part of the process may have been first; all of ours install the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("longwire/", env!("CARGO_PKG_VERSION")))
            // A signed event is for the address that the app named, and for no other.
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(workers_per_app)
            .build()?;
        Ok(Webhooks { client })
    }

    pub(crate) async fn post(&self, target: &Target, id: u64, body: Vec<u8>) -> Verdict {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let request = self
            .client
            .post(&target.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(SIGNATURE_HEADER, signature(&target.secret, seconds, &body))
            .header(ID_HEADER, id.to_string())
            .body(body);
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => Verdict::Failed { why: describe(error), retry_after: None },
        }
    }
}

/// `t=<unix seconds>,v1=<hex HMAC-SHA-256 of "<t>.<body>">`
pub(crate) fn signature(secret: &str, seconds: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

pub(crate) async fn judge(mut response: Response) -> Verdict {
    let status = response.status();
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let retry_after = asked.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let mut read = 0;
    while read < READ_OF_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            // The status has come; what happens to the rest changes nothing.
            Ok(None) | Err(_) => break,
        }
    }
    if status.is_success() {
        return Verdict::Delivered;
    }
    // What is wrong with the address, the credentials or the pace is wrong for every event alike.
    let of_all = [401, 403, 404, 405, 407, 408, 421, 425, 429];
    if status.is_client_error() && !of_all.contains(&status.as_u16()) {
        return Verdict::Refused(status);
    }
    Verdict::Failed { why: format!("HTTP {}", status.as_u16()), retry_after }
}

/// The innermost cause: reqwest's own words only say which step failed.
fn describe(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // The address may hold credentials of the app.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn signs_as_documented() {
        assert_eq!(signature("secret", 1_700_000_000, b"{}"), PINNED);
    }
    const PINNED: &str = "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
}
