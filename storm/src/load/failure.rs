//! Why a push was not accepted, and what may have become of it.

use std::time::Duration;

use proto::v1;
use tonic::{Code, Status};

/// Waits that a server asks for are kept to this: a storm ends some time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A request that was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable word.
    pub code: String,
    /// The same in words.
    pub message: String,
    /// How long to wait, if the server said.
    pub retry_after: Option<Duration>,
    /// What it means for the push.
    pub fate: Fate,
}

/// What an answer says about a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The same request would be refused again.
    Refused,
    /// Nobody knows, or it was not taken this time: the same request may succeed.
    Unsettled,
}

/// Words that mean "never as it is", as the API has them.
const REFUSALS: [&str; 11] = [
    "invalid",
    "malformed",
    "payload_too_large",
    "body_too_large",
    "no_key",
    "bad_key",
    "missing_scope",
    "other_app",
    "unknown_app",
    "idempotency_key_reused",
    "no_route",
];

impl Failure {
    /// From the word of an answer.
    #[must_use]
    pub fn from_word(code: &str, message: &str, retry_after_ms: u32) -> Self {
        let fate = if REFUSALS.contains(&code) { Fate::Refused } else { Fate::Unsettled };
        let wait = Duration::from_millis(retry_after_ms.into()).min(LONGEST_WAIT);
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
            retry_after: (retry_after_ms > 0).then_some(wait),
            fate,
        }
    }

    /// No answer at all.
    #[must_use]
    pub fn unanswered(why: &str) -> Self {
        Self { code: "unanswered".into(), message: why.into(), retry_after: None, fate: Fate::Unsettled }
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        Self::from_word(&failure.code, &failure.message, failure.retry_after_ms)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let word = status.metadata().get("longwire-error").and_then(|value| value.to_str().ok());
        let wait =
            status.metadata().get("retry-after-ms").and_then(|value| value.to_str().ok()?.parse().ok());
        match word {
            Some(word) => Self::from_word(word, status.message(), wait.unwrap_or(0)),
            // Without the API's word it comes from the transport, or from something in between.
            None => {
                let refused = matches!(
                    status.code(),
                    Code::InvalidArgument
                        | Code::Unauthenticated
                        | Code::PermissionDenied
                        | Code::Unimplemented
                );
                Self {
                    code: format!("grpc_{:?}", status.code()).to_lowercase(),
                    message: status.message().to_owned(),
                    retry_after: None,
                    fate: if refused { Fate::Refused } else { Fate::Unsettled },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    #[test]
    fn a_refusal_is_known_by_its_word() {
        assert_eq!(Failure::from_word("unknown_app", "", 0).fate, Fate::Refused);
        let busy = Failure::from_word("busy", "", 3_600_000);
        assert_eq!((busy.fate, busy.retry_after), (Fate::Unsettled, Some(LONGEST_WAIT)));
    }

    #[test]
    fn a_status_without_a_word_is_judged_by_its_code() {
        assert_eq!(Failure::from(Status::unavailable("")).fate, Fate::Unsettled);
        assert_eq!(Failure::from(Status::unauthenticated("")).fate, Fate::Refused);
        let mut status = Status::not_found("");
        status.metadata_mut().insert("longwire-error", MetadataValue::from_static("busy"));
        status.metadata_mut().insert("retry-after-ms", MetadataValue::from(20));
        assert_eq!(Failure::from(status).retry_after, Some(Duration::from_millis(20)));
    }
}
