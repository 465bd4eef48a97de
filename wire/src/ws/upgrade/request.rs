//! What a client asks for.

use base64::{Engine, prelude::BASE64_STANDARD};
use httparse::{EMPTY_HEADER, Status};

use super::{
    Refusal,
    head::{Extent, Fields, MAX_FIELDS, extent},
};
use crate::ws::Format;

/// A client's request for a WebSocket: one that can be accepted as far as RFC 6455 goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path, without the query.
    pub path: String,
    /// `Host`: the name that the client knows the server by.
    pub host: String,
    /// `Origin`: the page that a browser runs; other clients send none.
    pub origin: Option<String>,
    /// The subprotocols that the client speaks, the preferred one first.
    pub protocols: Vec<String>,
    /// `Sec-WebSocket-Key`, for the answer.
    pub key: String,
    /// `Cookie`, as sent; empty = none.
    pub cookies: String,
}

impl Request {
    /// Reads a request from the front of `bytes`, which are all that have come so far: itself and how many bytes it
    /// took, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`Refusal`] if it is none that a WebSocket could answer.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let len = match extent(bytes) {
            Extent::Whole(len) => len,
            Extent::Partial => return Ok(None),
            Extent::TooLarge => return Err(Refusal::TooLarge),
        };
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes[..len]) {
            Ok(Status::Complete(taken)) if taken == len => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
            // A head that ends before its end has lines that end in a way of their own.
            Ok(_) | Err(_) => return Err(Refusal::BadRequest("this is no HTTP request")),
        }
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        if method != "GET" {
            return Err(Refusal::NotGet);
        }
        if request.version != Some(1) {
            return Err(Refusal::BadRequest("WebSocket needs HTTP/1.1"));
        }
        let request = Self::read(target, Fields(request.headers))?;
        Ok(Some((request, len)))
    }

    fn read(target: &str, fields: Fields<'_>) -> Result<Self, Refusal> {
        let bad = |_| Refusal::BadRequest("a field is there twice");
        if !target.starts_with('/') {
            return Err(Refusal::BadRequest("the target is no path"));
        }
        let has_body = fields.all("content-length").any(|length| length != "0");
        if has_body || fields.all("transfer-encoding").next().is_some() {
            return Err(Refusal::BadRequest("the request has a body"));
        }
        if !fields.has_word("upgrade", "websocket") || !fields.has_word("connection", "upgrade") {
            return Err(Refusal::NotWebSocket);
        }
        if fields.one("sec-websocket-version").map_err(bad)? != Some("13") {
            return Err(Refusal::BadVersion);
        }
        let key = fields.one("sec-websocket-key").map_err(bad)?.unwrap_or_default();
        if BASE64_STANDARD.decode(key).ok().is_none_or(|nonce| nonce.len() != 16) {
            return Err(Refusal::BadRequest("Sec-WebSocket-Key must be 16 bytes in base64"));
        }
        let host = fields.one("host").map_err(bad)?;
        let host = host.ok_or(Refusal::BadRequest("Host is missing"))?;
        let path = target.split_once(['?', '#']).map_or(target, |(path, _)| path);
        Ok(Self {
            path: path.to_owned(),
            host: host.to_owned(),
            origin: fields.one("origin").map_err(bad)?.map(str::to_owned),
            protocols: fields.words("sec-websocket-protocol").map(str::to_owned).collect(),
            key: key.to_owned(),
            cookies: fields.all("cookie").collect::<Vec<_>>().join("; "),
        })
    }

    /// The first format that the client offers and this side knows.
    ///
    /// # Errors
    /// [`Refusal::BadSubprotocol`] if there is none: without a subprotocol nobody knows what messages hold.
    pub fn format(&self) -> Result<Format, Refusal> {
        let mut known = self.protocols.iter().filter_map(|name| Format::of_subprotocol(name));
        known.next().ok_or(Refusal::BadSubprotocol)
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let mut pairs = self.cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}
