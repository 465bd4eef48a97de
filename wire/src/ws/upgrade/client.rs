//! A client's side.

use base64::{Engine, prelude::BASE64_STANDARD};
use httparse::{EMPTY_HEADER, Status};

use super::{
    MAX_HEAD,
    accept::accept_key,
    head::{Extent, Fields, MAX_FIELDS, extent},
};
use crate::ws::Format;

/// A request for a WebSocket. `host` is the server's name, with its port unless that is the usual one; `nonce` is to be
/// new and random for each connection; `cookie` goes into `Cookie`. `host`, `path` and `cookie` must be one line.
#[must_use]
pub fn request(host: &str, path: &str, format: Format, nonce: [u8; 16], cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {}\r\n{cookie}\r\n",
        BASE64_STANDARD.encode(nonce),
        format.subprotocol(),
    )
    .into_bytes()
}

/// A server's answer that makes the stream a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The cookies that it sets, as name=value.
    pub cookies: Vec<String>,
}

/// Why there is no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The server refuses.
    #[error("the server answered {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Seconds after which it wants to be asked again.
        retry_after_s: Option<u32>,
    },
    /// What answered speaks HTTP, but no WebSocket, or no HTTP at all.
    #[error("the server's answer is no WebSocket's: {0}")]
    Bad(&'static str),
    /// A head over the bound.
    #[error("the answer's head is over {MAX_HEAD} bytes")]
    TooLarge,
}

impl Response {
    /// Reads the answer to a [`request`] from the front of `bytes`, which are all that have come so far: itself and how
    /// many bytes it took, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`UpgradeError`] if it is not the answer that makes a WebSocket of this format.
    pub fn parse(
        bytes: &[u8],
        format: Format,
        nonce: [u8; 16],
    ) -> Result<Option<(Self, usize)>, UpgradeError> {
        let len = match extent(bytes) {
            Extent::Whole(len) => len,
            Extent::Partial => return Ok(None),
            Extent::TooLarge => return Err(UpgradeError::TooLarge),
        };
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&bytes[..len]) {
            Ok(Status::Complete(taken)) if taken == len => {}
            Ok(_) | Err(_) => return Err(UpgradeError::Bad("it is not HTTP")),
        }
        let fields = Fields(response.headers);
        let status = response.code.unwrap_or_default();
        if status != 101 {
            let retry_after_s = fields.all("retry-after").find_map(|seconds| seconds.parse().ok());
            return Err(UpgradeError::Status { status, retry_after_s });
        }
        if !fields.has_word("upgrade", "websocket") || !fields.has_word("connection", "upgrade") {
            return Err(UpgradeError::Bad("it upgrades to something else"));
        }
        let expected = accept_key(&BASE64_STANDARD.encode(nonce));
        if fields.one("sec-websocket-accept") != Ok(Some(&expected)) {
            return Err(UpgradeError::Bad("Sec-WebSocket-Accept does not fit"));
        }
        if fields.one("sec-websocket-protocol") != Ok(Some(format.subprotocol())) {
            return Err(UpgradeError::Bad("the subprotocol is not the one asked for"));
        }
        if fields.words("sec-websocket-extensions").next().is_some() {
            return Err(UpgradeError::Bad("it uses an extension that was not offered"));
        }
        let pairs = fields.all("set-cookie").map(|cookie| cookie.split(';').next().unwrap_or_default());
        let cookies = pairs.filter(|pair| pair.contains('=')).map(str::to_owned).collect();
        Ok(Some((Self { cookies }, len)))
    }
}
