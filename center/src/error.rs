//! Everything that an operation can answer instead of a result, and what that means to each kind of caller.
//!
//! [`Error::facts`] is the one place that maps an error to its word, HTTP status, gRPC code and advice.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use peers::PeerError;
use proto::v1;
use tonic::{Code, Status, metadata::MetadataValue};

use crate::auth::Scope;

/// Result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A field is missing, malformed or over its bound.
    #[error("{message}")]
    Invalid {
        /// The field's name in the API.
        field: Cow<'static, str>,
        /// What is wrong with it.
        message: Cow<'static, str>,
    },
    /// The request cannot be read at all.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// The payload is over its bound.
    #[error("the payload has {actual} bytes; at most {limit} are taken")]
    PayloadTooLarge {
        /// Its size.
        actual: usize,
        /// The bound.
        limit: usize,
    },
    /// The request is over the bound of its route.
    #[error("the request's body is over {limit} bytes")]
    BodyTooLarge {
        /// The bound.
        limit: usize,
    },
    /// The body did not come in time.
    #[error("the request's body did not come in time")]
    BodyTimeout,
    /// No API key, or no legible one.
    #[error("no API key: send \"Authorization: Bearer <app key>\"")]
    NoKey,
    /// No such API key.
    #[error("the API key is not known")]
    BadKey,
    /// The key may not do this.
    #[error("the API key lacks the scope \"{}\"", .0.name())]
    Scope(Scope),
    /// The key belongs to another app.
    #[error("the API key is not one of app {app:?}")]
    OtherApp {
        /// The app that was asked for.
        app: String,
    },
    /// No such app.
    #[error("app {app:?} is not known")]
    UnknownApp {
        /// The app that was asked for.
        app: String,
    },
    /// No such message in the app.
    #[error("message {id} is not known")]
    UnknownMessage {
        /// The id that was asked for.
        id: u64,
    },
    /// There is an app of that name.
    #[error("app {app:?} exists")]
    AppExists {
        /// The name.
        app: String,
    },
    /// The broadcast is not in a state in which that can be done; the text says what can.
    #[error("{0}")]
    WrongState(String),
    /// The idempotency key came before, with another request.
    #[error("the idempotency key was used for a different request")]
    KeyReused,
    /// The app's rate is used up.
    #[error("the app is over its rate of pushes")]
    TooFast {
        /// When there is room again.
        retry_after: Duration,
    },
    /// A bound of this center was met; the text says which.
    #[error("too many {0} at the moment")]
    Full(&'static str),
    /// A list of users broke off after a part of it was done.
    #[error(transparent)]
    Stopped(Box<Stopped>),
    /// Another service did not do its part.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A bug or a broken store; the log has it.
    #[error("{0}")]
    Internal(&'static str),
    /// No such route.
    #[error("there is nothing at this path; see /openapi.json")]
    NoRoute,
    /// The path is there, the method is not.
    #[error("this path does not take the method; see /openapi.json")]
    NoMethod,
}

/// How far a list of users came that broke off, and why it did.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}; of the users before that, {accepted} of {targets} have message {id}{}", advice(.why))]
pub struct Stopped {
    /// The message's id.
    pub id: u64,
    /// Users of the list that were tried, from its beginning.
    pub targets: u64,
    /// Of them: those that have it.
    pub accepted: u64,
    /// What broke it off.
    pub why: Error,
}

fn advice(why: &Error) -> &'static str {
    match why {
        // It was taken back.
        Error::WrongState(_) => "",
        // A line of it, or its length: as it is it would break off there again.
        Error::Invalid { .. } => ": mended, it goes on with the same idempotency key",
        _ => ": the same list with the same idempotency key goes on",
    }
}

/// What an error means to a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Stable word, in HTTP and gRPC answers and as the label of metrics.
    pub code: Cow<'static, str>,
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC code.
    pub grpc: Code,
    /// When the same request may succeed; absent = never as it is.
    pub retry_after: Option<Duration>,
}

/// A full queue of this center is empty again within milliseconds; a second keeps callers from hammering.
const FULL_RETRY: Duration = Duration::from_secs(1);

impl Error {
    /// A field is not as it should be.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Error {
        Error::Invalid { field: field.into(), message: message.into() }
    }

    /// What the error means to a caller.
    pub fn facts(&self) -> Facts {
        let (code, status, grpc, retry_after) = match self {
            Error::Invalid { .. } => ("invalid", StatusCode::BAD_REQUEST, Code::InvalidArgument, None),
            Error::Malformed(_) => ("malformed", StatusCode::BAD_REQUEST, Code::InvalidArgument, None),
            Error::PayloadTooLarge { .. } => {
                ("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, None)
            }
            Error::BodyTooLarge { .. } => {
                ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, Code::OutOfRange, None)
            }
            Error::BodyTimeout => ("body_timeout", StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, None),
            Error::NoKey => ("no_key", StatusCode::UNAUTHORIZED, Code::Unauthenticated, None),
            Error::BadKey => ("bad_key", StatusCode::UNAUTHORIZED, Code::Unauthenticated, None),
            Error::Scope(_) => ("missing_scope", StatusCode::FORBIDDEN, Code::PermissionDenied, None),
            Error::OtherApp { .. } => ("other_app", StatusCode::FORBIDDEN, Code::PermissionDenied, None),
            Error::UnknownApp { .. } => ("unknown_app", StatusCode::NOT_FOUND, Code::NotFound, None),
            Error::UnknownMessage { .. } => ("unknown_message", StatusCode::NOT_FOUND, Code::NotFound, None),
            Error::AppExists { .. } => ("app_exists", StatusCode::CONFLICT, Code::AlreadyExists, None),
            Error::WrongState(_) => ("wrong_state", StatusCode::CONFLICT, Code::FailedPrecondition, None),
            Error::KeyReused => {
                ("idempotency_key_reused", StatusCode::CONFLICT, Code::FailedPrecondition, None)
            }
            Error::TooFast { retry_after } => {
                ("too_fast", StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, Some(*retry_after))
            }
            Error::Full(_) => ("busy", StatusCode::TOO_MANY_REQUESTS, Code::Unavailable, Some(FULL_RETRY)),
            Error::Stopped(stopped) => return stopped.why.facts(),
            Error::Peer(peer) => return peer_facts(peer),
            Error::Internal(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, None),
            Error::NoRoute => ("no_route", StatusCode::NOT_FOUND, Code::Unimplemented, None),
            Error::NoMethod => ("no_method", StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, None),
        };
        Facts { code: code.into(), status, grpc, retry_after }
    }

    /// The field that is to blame, if one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Error::Invalid { field, .. } => Some(field),
            Error::PayloadTooLarge { .. } => Some("payload"),
            Error::OtherApp { .. } | Error::UnknownApp { .. } | Error::AppExists { .. } => Some("app"),
            Error::UnknownMessage { .. } => Some("id"),
            Error::KeyReused => Some("Idempotency-Key"),
            Error::Stopped(stopped) => stopped.why.field(),
            _ => None,
        }
    }

    /// The error for those who read its words alone, as gRPC's callers do: with the field's name, where the words do not begin with it.
    fn sentence(&self) -> String {
        let words = self.to_string();
        match (self, self.stopped().map(|stopped| &stopped.why)) {
            (Error::Invalid { field, .. }, _) | (_, Some(Error::Invalid { field, .. }))
                if !words.starts_with(field.as_ref()) =>
            {
                format!("{field}: {words}")
            }
            _ => words,
        }
    }

    /// How far a list came before the error.
    pub fn stopped(&self) -> Option<&Stopped> {
        match self {
            Error::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        self.facts().retry_after.is_some()
    }

    /// The error as a part of an answer that has others.
    pub fn to_failure(&self) -> v1::Failure {
        let facts = self.facts();
        let retry_after_ms = facts.retry_after.map_or(0, whole_millis);
        v1::Failure { code: facts.code.into_owned(), message: self.sentence(), retry_after_ms }
    }
}

/// Milliseconds, rounded up: zero would say "never as it is".
pub(crate) fn whole_millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let facts = error.facts();
        let mut status = Status::new(facts.grpc, error.sentence());
        let metadata = status.metadata_mut();
        if let Ok(code) = MetadataValue::try_from(facts.code.as_ref()) {
            metadata.insert("longwire-error", code);
        }
        if let Some(field) = error.field().and_then(|field| MetadataValue::try_from(field).ok()) {
            metadata.insert("longwire-field", field);
        }
        if let Some(Stopped { id, targets, accepted, .. }) = error.stopped() {
            metadata.insert("longwire-id", MetadataValue::from(*id));
            metadata.insert("longwire-targets", MetadataValue::from(*targets));
            metadata.insert("longwire-accepted", MetadataValue::from(*accepted));
        }
        if let Some(after) = facts.retry_after {
            metadata.insert("retry-after-ms", MetadataValue::from(whole_millis(after)));
        }
        status
    }
}

/// What the trouble of a peer means to the caller: `peers` has that table.
fn peer_facts(error: &PeerError) -> Facts {
    let outcome = error.outcome();
    let code = error.code();
    // A queue that is full, here or there, is not a service that is away: more callers than it can bear are what is wrong, and
    // a balancer in front must not take the center out for it.
    let (status, grpc) = match OVERLOADED.contains(&code) && outcome.retry_after.is_some() {
        true => (StatusCode::TOO_MANY_REQUESTS, Code::Unavailable),
        false => (outcome.http, outcome.grpc),
    };
    Facts { code: code.to_owned().into(), status, grpc, retry_after: outcome.retry_after }
}

/// Words of this and other services for a bound that was met.
const OVERLOADED: [&str; 3] = ["overloaded", "busy", "archive_behind"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_metadata_says_what_http_says() {
        let status = Status::from(Error::UnknownApp { app: "foo".into() });
        assert_eq!((status.code(), status.message()), (Code::NotFound, "app \"foo\" is not known"));
        assert_eq!(status.metadata().get("longwire-error").unwrap(), "unknown_app");
        assert_eq!(status.metadata().get("longwire-field").unwrap(), "app");

        let status = Status::from(Error::TooFast { retry_after: Duration::from_micros(1_500) });
        assert_eq!(status.metadata().get("retry-after-ms").unwrap(), "2");
    }

    #[test]
    fn words_alone_name_the_field() {
        // Results of a batch and the status of a call once said "has passed", and of what only metadata told.
        let passed = Error::invalid("when.at_ms", "has passed");
        assert_eq!(passed.to_failure().message, "when.at_ms: has passed");
        let why = Error::invalid("uids", "has too many");
        let stopped = Error::Stopped(Box::new(Stopped { id: 7, targets: 2, accepted: 1, why }));
        assert!(Status::from(stopped).message().starts_with("uids: has too many; of the users before that"));
        assert_eq!(Error::invalid("uid", "uid has 0 bytes").to_failure().message, "uid has 0 bytes");
    }

    #[test]
    fn a_wait_is_never_rounded_to_never() {
        assert_eq!(whole_millis(Duration::from_nanos(1)), 1);
        assert_eq!(whole_millis(Duration::MAX), u32::MAX);
        let failure = Error::TooFast { retry_after: Duration::from_nanos(1) }.to_failure();
        assert_eq!((failure.code.as_str(), failure.retry_after_ms), ("too_fast", 1));
    }

    #[test]
    fn what_may_succeed_later_is_429_or_503() {
        let busy = proto::internal::Refusal { code: "busy".into(), message: "m".into(), retry_after_ms: 200 };
        for (error, status) in [
            (Error::Full("x"), 429),
            (Error::Peer(PeerError::Full(cluster::Role::Saver)), 429),
            (Error::Peer(PeerError::Refused(busy)), 429),
            (Error::Peer(PeerError::NoNode(cluster::Role::Saver)), 503),
        ] {
            assert_eq!((error.facts().status.as_u16(), error.facts().grpc), (status, Code::Unavailable));
            assert!(error.is_transient());
        }
        assert!(!Error::BadKey.is_transient());
    }
}
