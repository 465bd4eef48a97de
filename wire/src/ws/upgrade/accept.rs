//! What a server answers to a request that it takes.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};

use super::Request;
use crate::ws::Format;

/// RFC 6455, section 1.3: what shows that the server has understood the request as one for a WebSocket.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The whole answer to a request. `cookie` is the value of `Set-Cookie`, with its attributes; it must be one line.
#[must_use]
pub fn accept(request: &Request, format: Format, cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|cookie| format!("Set-Cookie: {cookie}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n{cookie}\r\n",
        accept_key(&request.key),
        format.subprotocol(),
    )
    .into_bytes()
}

/// What answers a key.
pub(super) fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64_STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
