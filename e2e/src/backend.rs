//! An app's backend: takes webhooks, checks their signatures, and can be told to fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use crate::external;

/// Calls that a test has not looked at yet.
const UNREAD: usize = 10_000;

/// A backend on a free port. It ends when it is dropped.
pub struct Backend {
    address: SocketAddr,
    calls: Mutex<mpsc::Receiver<Call>>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    calls: mpsc::Sender<Call>,
    failures: AtomicU32,
}

/// One webhook call that was taken.
#[derive(Clone, Debug)]
pub struct Call {
    /// `Longwire-Signature`.
    pub signature: String,
    /// The body as it came.
    pub raw: Vec<u8>,
    /// The body as JSON.
    pub body: Value,
}

impl Backend {
    /// Starts one.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn start() -> anyhow::Result<Self> {
        let (listen, called_by) = external::callback()?;
        let listener = TcpListener::bind((listen, 0)).await?;
        let address = SocketAddr::new(called_by, listener.local_addr()?.port());
        let (sender, calls) = mpsc::channel(UNREAD);
        let shared = Arc::new(Shared { calls: sender, failures: AtomicU32::new(0) });
        let app = Router::new().route("/hook", post(take)).with_state(shared.clone());
        let server = tokio::spawn(async move {
            // A test that is over does not care how the server ended.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, calls: Mutex::new(calls), shared, server })
    }

    /// Where to send webhooks.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next `n` calls with 503.
    pub fn fail_next(&self, n: u32) {
        self.shared.failures.store(n, Ordering::SeqCst);
    }

    /// The next call that was taken.
    ///
    /// # Errors
    /// When none comes within 20 s.
    pub async fn next(&self) -> anyhow::Result<Call> {
        let mut calls = self.calls.lock().await;
        tokio::time::timeout(Duration::from_secs(20), calls.recv())
            .await
            .context("no webhook call came")?
            .context("the backend ended")
    }

    /// Whether nothing comes for this long.
    pub async fn silent_for(&self, time: Duration) -> bool {
        let mut calls = self.calls.lock().await;
        tokio::time::timeout(time, calls.recv()).await.is_err()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let failing =
        shared.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    if failing {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let signature =
        headers.get("longwire-signature").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let text = external::answer(String::from_utf8_lossy(&body).into_owned());
    let call =
        Call { signature, raw: body.to_vec(), body: serde_json::from_str(&text).unwrap_or(Value::Null) };
    if shared.calls.send(call).await.is_err() { StatusCode::GONE } else { StatusCode::OK }
}

impl Call {
    /// Whether the signature is that of `secret` over this body: `t=<s>,v1=<hex hmac-sha256("<t>.<body>")>`.
    pub fn signed_by(&self, secret: &str) -> bool {
        let part =
            |name: &str| self.signature.split(',').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        let (Some(time), Some(given)) = (part("t"), part("v1").and_then(|h| hex::decode(h).ok())) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(&self.raw);
        mac.verify_slice(&given).is_ok()
    }
}
