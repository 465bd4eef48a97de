//! The JSON of what sends a message to users who are named.

use std::num::NonZeroU64;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use proto::v1;
use serde::{Deserialize, Deserializer, de::Error as _};
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// Base64 with or without its padding: both are in use, and neither is ambiguous.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A message to one user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"uid": "alice", "payload": "hello", "ttl_s": 3600}))]
pub(super) struct PushBody {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    app: String,
    /// The user, 1 to 128 bytes.
    uid: String,
    /// The payload as text. Either this or `payload_base64`.
    payload: Option<String>,
    /// The payload as bytes in base64.
    payload_base64: Option<String>,
    /// Seconds until the message expires; absent = the app's default.
    ttl_s: Option<u32>,
    /// Only to who is online; never stored.
    #[serde(default)]
    transient: bool,
    /// 1 to 64 bytes: takes the place of earlier messages with the same key that the user has not acked.
    #[serde(default)]
    collapse_key: String,
    /// Absent = normal.
    #[serde(default)]
    priority: PriorityWord,
    /// Absent = now. The time to live begins at that time.
    when: Option<WhenBody>,
}

impl PushBody {
    pub(super) fn into_request(self, idempotency_key: String) -> Result<v1::PushRequest> {
        Ok(v1::PushRequest {
            app: self.app,
            uid: self.uid,
            payload: payload(self.payload, self.payload_base64)?,
            ttl_s: self.ttl_s,
            transient: self.transient,
            idempotency_key,
            collapse_key: self.collapse_key,
            priority: self.priority.into(),
            when: self.when.map(Into::into),
        })
    }
}

/// One payload to a list of users.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"uids": ["alice", "bob"], "payload": "hello"}))]
pub(super) struct MulticastBody {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    app: String,
    /// The users, each 1 to 128 bytes; one that is listed twice counts once.
    uids: Vec<String>,
    /// The payload as text. Either this or `payload_base64`.
    payload: Option<String>,
    /// The payload as bytes in base64.
    payload_base64: Option<String>,
    /// Seconds until the message expires; absent = the app's default.
    ttl_s: Option<u32>,
    /// Only to who is online; never stored.
    #[serde(default)]
    transient: bool,
    /// 1 to 64 bytes: takes the place of earlier messages with the same key that the user has not acked.
    #[serde(default)]
    collapse_key: String,
    /// Absent = normal.
    #[serde(default)]
    priority: PriorityWord,
    /// Absent = now. The time to live begins at that time.
    when: Option<WhenBody>,
}

impl MulticastBody {
    pub(super) fn into_request(self, idempotency_key: String) -> Result<v1::MulticastRequest> {
        Ok(v1::MulticastRequest {
            app: self.app,
            uids: self.uids,
            payload: payload(self.payload, self.payload_base64)?,
            ttl_s: self.ttl_s,
            transient: self.transient,
            idempotency_key,
            collapse_key: self.collapse_key,
            priority: self.priority.into(),
            when: self.when.map(Into::into),
        })
    }
}

/// The message of a multicast whose users are streamed: the first line of the body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"payload": "hello", "ttl_s": 3600}))]
pub(super) struct MulticastHead {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    app: String,
    /// The payload as text. Either this or `payload_base64`.
    payload: Option<String>,
    /// The payload as bytes in base64.
    payload_base64: Option<String>,
    /// Seconds until the message expires; absent = the app's default.
    ttl_s: Option<u32>,
    /// Only to who is online; never stored.
    #[serde(default)]
    transient: bool,
    /// The same as the header `Idempotency-Key`; one of them is enough.
    #[serde(default)]
    idempotency_key: String,
    /// 1 to 64 bytes: takes the place of earlier messages with the same key that the user has not acked.
    #[serde(default)]
    collapse_key: String,
    /// Absent = normal.
    #[serde(default)]
    priority: PriorityWord,
    /// Absent = now. The time to live begins at that time.
    when: Option<WhenBody>,
}

impl MulticastHead {
    pub(super) fn into_request(self, header: String) -> Result<v1::MulticastRequest> {
        let idempotency_key = match (header, self.idempotency_key) {
            (header, here) if here.is_empty() || here == header => header,
            (header, here) if header.is_empty() => here,
            _ => return Err(Error::invalid("idempotency_key", "is another than that of the header")),
        };
        Ok(v1::MulticastRequest {
            app: self.app,
            uids: Vec::new(),
            payload: payload(self.payload, self.payload_base64)?,
            ttl_s: self.ttl_s,
            transient: self.transient,
            idempotency_key,
            collapse_key: self.collapse_key,
            priority: self.priority.into(),
            when: self.when.map(Into::into),
        })
    }
}

/// Whether a message waits for others.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum PriorityWord {
    /// As they come.
    #[default]
    Normal,
    /// Overtakes in every queue what is not urgent, but never an earlier message of the same inbox or log.
    Urgent,
}

impl From<PriorityWord> for i32 {
    fn from(word: PriorityWord) -> i32 {
        match word {
            PriorityWord::Normal => v1::Priority::Normal.into(),
            PriorityWord::Urgent => v1::Priority::Urgent.into(),
        }
    }
}

/// When to send. Either `at_ms` or `local_time`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"local_time": "09:00", "time_zone": "device"}))]
pub(super) struct WhenBody {
    /// ms since 1970.
    #[schema(value_type = Option<u64>, minimum = 1)]
    at_ms: Option<NonZeroU64>,
    /// What the clock shows: `2026-11-21T09:00`, or `09:00` for the next time that it does.
    #[serde(default, deserialize_with = "given")]
    local_time: String,
    /// Whose clock: an IANA name like `Europe/Berlin`, `device` for that of each device; absent = UTC.
    #[serde(default)]
    time_zone: String,
}

impl From<WhenBody> for v1::When {
    fn from(when: WhenBody) -> v1::When {
        v1::When {
            at_ms: when.at_ms.map_or(0, NonZeroU64::get),
            local_time: when.local_time,
            time_zone: when.time_zone,
        }
    }
}

/// A text that is named is meant: an empty one is a mistake, and would be sent at once.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(D::Error::custom("is empty: give it, or leave it out")) } else { Ok(text) }
}

pub(super) fn payload(text: Option<String>, base64: Option<String>) -> Result<Bytes> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(bytes.into()),
            Err(e) => Err(Error::invalid("payload_base64", format!("not base64: {e}"))),
        },
        (None, None) => Err(Error::invalid("payload", "missing: give payload (text) or payload_base64")),
        (Some(_), Some(_)) => Err(Error::invalid("payload", "give payload or payload_base64, not both")),
    }
}
