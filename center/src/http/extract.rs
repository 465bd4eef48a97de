//! What handlers take out of a request. Whatever is wrong with it becomes an [`Error`] that names the field.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{PathRejection, QueryRejection},
    },
};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use wire::id::MessageId;

use crate::{
    error::{Error, Result},
    limits::Held,
    ops::{Caller, Ops},
};

impl FromRequestParts<Arc<Ops>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, ops: &Arc<Ops>) -> Result<Caller> {
        ops.authenticate(parts.headers.get(header::AUTHORIZATION)).await
    }
}

/// The header `Idempotency-Key`; empty if there is none.
pub(super) struct IdempotencyKey(pub(super) String);

impl FromRequestParts<Arc<Ops>> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Ops>) -> Result<Self> {
        idempotency_key(&parts.headers).map(Self)
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<String> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(String::new()) };
    match value.to_str() {
        Ok(key) if !key.is_empty() => Ok(key.to_owned()),
        _ => Err(Error::invalid("Idempotency-Key", "must be 1 to 128 visible ASCII characters")),
    }
}

/// A parameter of the path.
pub(super) struct InPath<T>(pub(super) T);

/// A value that a path can hold.
pub(super) trait PathValue: Sized {
    /// The parameter's name in the API.
    const FIELD: &'static str;

    fn parse(text: String) -> Result<Self>;
}

impl PathValue for String {
    const FIELD: &'static str = "path";

    fn parse(text: String) -> Result<Self> {
        Ok(text)
    }
}

impl PathValue for MessageId {
    const FIELD: &'static str = "id";

    fn parse(text: String) -> Result<Self> {
        text.parse().map_err(|_| Error::invalid("id", "a message id is a decimal number"))
    }
}

impl<T: PathValue> FromRequestParts<Arc<Ops>> for InPath<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, ops: &Arc<Ops>) -> Result<Self> {
        match Path::<String>::from_request_parts(parts, ops).await {
            Ok(Path(text)) => T::parse(text).map(Self),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Error::invalid(T::FIELD, "is not UTF-8"))
            }
            Err(e) => Err(Error::Malformed(e.body_text().into())),
        }
    }
}

/// What axum says before it says what is wrong with a query string.
const BEFORE_QUERY: &str = "Failed to deserialize query string: ";

/// The query string.
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Ops>> for InQuery<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, ops: &Arc<Ops>) -> Result<Self> {
        match Query::<T>::from_request_parts(parts, ops).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(e)) => {
                let text = e.body_text();
                let text = text.strip_prefix(BEFORE_QUERY).unwrap_or(&text);
                // "limit: invalid digit found in string", or just what is missing.
                let named = text.split_once(": ").or_else(|| Some((quoted(text)?, text)));
                Err(match named {
                    Some((field, message)) => Error::invalid(field.to_owned(), message.to_owned()),
                    None => Error::Malformed(text.to_owned().into()),
                })
            }
            Err(e) => Err(Error::Malformed(e.body_text().into())),
        }
    }
}

/// Which bound a body has: one payload, or a list of users beside it.
pub(super) trait BodyBound {
    fn limit(ops: &Ops) -> usize;
}

/// One payload and a few short fields.
pub(super) struct OneMessage;

impl BodyBound for OneMessage {
    fn limit(ops: &Ops) -> usize {
        // JSON may write each byte of a payload as \u00XX, six for one.
        ops.config().payload_max_bytes * 6 + 16 * 1024
    }
}

/// One payload and a list of users.
pub(super) struct ManyUsers;

impl BodyBound for ManyUsers {
    fn limit(ops: &Ops) -> usize {
        // 128 bytes, quotes, comma, a space, and room for what has to be escaped.
        OneMessage::limit(ops) + ops.config().multicast_max_uids * 160
    }
}

/// A body of JSON, whatever its content type says: `curl -d` says "form" and means JSON.
pub(super) struct Json<T, B = OneMessage> {
    value: T,
    /// The body's share of the bytes in flight, until the request is answered.
    _held: Held,
    _bound: std::marker::PhantomData<B>,
}

impl<T, B> Json<T, B> {
    /// The value and what has to be kept until the request is answered.
    pub(super) fn into_parts(self) -> (T, Held) {
        (self.value, self._held)
    }
}

impl<T, B> Deref for Json<T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: DeserializeOwned, B: BodyBound> FromRequest<Arc<Ops>> for Json<T, B> {
    type Rejection = Error;

    async fn from_request(request: Request, ops: &Arc<Ops>) -> Result<Self> {
        let limit = B::limit(ops);
        let length = announced_length(request.headers());
        if length.is_some_and(|length| length > limit) {
            // Who asks whether to send it at all is told no.
            if !request.headers().contains_key(header::EXPECT) {
                discard(request.into_body()).await;
            }
            return Err(Error::BodyTooLarge { limit });
        }
        let held = ops.bodies().take(length.unwrap_or(limit))?;
        let bytes = read(request, ops, limit).await?;
        Ok(Self { value: parse(&bytes)?, _held: held, _bound: std::marker::PhantomData })
    }
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(request: Request, ops: &Ops, limit: usize) -> Result<Bytes> {
    let mut body = request.into_body();
    let whole = Limited::new(&mut body, limit).collect();
    match tokio::time::timeout(ops.config().body_timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            discard(body).await;
            Err(Error::BodyTooLarge { limit })
        }
        Ok(Err(_)) => Err(Error::Malformed("the request's body ended early".into())),
        Err(_) => Err(Error::BodyTimeout),
    }
}

/// Of a body that is not taken so much is read and thrown away, in such a time: a connection that is closed while its
/// caller still sends breaks in his hands, and he never reads why.
const DISCARD_MAX: usize = 16 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

pub(super) async fn discard(mut body: Body) {
    let rest = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length >= left {
                return;
            }
            left -= length;
        }
    };
    // Who goes on for longer has been warned.
    let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
}

/// Reads JSON; the error names the field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Serde would take a list for an object, field by field.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::Malformed("the body must be a JSON object".into()));
    }
    // The good case is parsed without keeping track of where it stands.
    serde_json::from_slice(bytes).map_err(|plain| explain::<T>(bytes, &plain))
}

#[cold]
fn explain<T: DeserializeOwned>(bytes: &[u8], plain: &serde_json::Error) -> Error {
    if !plain.is_data() {
        return Error::Malformed(format!("not JSON: {plain}").into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) else {
        return Error::Malformed(plain.to_string().into());
    };
    let path = error.path().to_string();
    let message = error.into_inner().to_string();
    // A field that is missing or unknown is named in the text; the path is that of what lacks it.
    let of_parent =
        ["missing field", "unknown field", "duplicate field"].iter().any(|w| message.starts_with(w));
    let field = match quoted(&message) {
        Some(field) if of_parent && path == "." => field.to_owned(),
        Some(field) if of_parent && !path.ends_with(field) => format!("{path}.{field}"),
        _ => path,
    };
    if field == "." { Error::Malformed(message.into()) } else { Error::invalid(field, message) }
}

/// What stands in the first backquotes.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[allow(dead_code)]
        uid: String,
        #[serde(default)]
        #[allow(dead_code)]
        uids: Vec<String>,
        #[allow(dead_code)]
        ttl_s: Option<u32>,
    }

    fn field_of(json: &str) -> Option<String> {
        parse::<Body>(json.as_bytes()).unwrap_err().field().map(str::to_owned)
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(field_of("{}").as_deref(), Some("uid"));
        assert_eq!(field_of(r#"{"uid":"a","tll_s":1}"#).as_deref(), Some("tll_s"));
        assert_eq!(field_of(r#"{"uid":5}"#).as_deref(), Some("uid"));
        assert_eq!(field_of(r#"{"uid":"a","ttl_s":-1}"#).as_deref(), Some("ttl_s"));
        assert_eq!(field_of(r#"{"uid":"a","uids":["b",7]}"#).as_deref(), Some("uids[1]"));
        assert_eq!(field_of(r#"{"uid":"a","uid":"b"}"#).as_deref(), Some("uid"));
        assert!(parse::<Body>(br#"{"uid":"a","ttl_s":null}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        for json in ["", "{", "[1]", "[\"a\"]", "null", "uid=a", "\u{fffd}", r#"{"uid":"a"} x"#] {
            let error = parse::<Body>(json.as_bytes()).unwrap_err();
            assert_eq!(error.facts().code, "malformed", "{json:?}: {error}");
        }
    }
}
