//! What can go wrong with a call to a peer, and what it means to whoever asked.

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use cluster::{NodeId, Role};
use flow::{Attempt, CallError, GaveUp};
use http::StatusCode;
use proto::internal::Refusal;
use tonic::{Code, Status};

/// Metadata key by which a service says when a call may be tried again, in milliseconds.
pub const RETRY_AFTER: &str = "retry-after-ms";
/// Code of a refusal: the app was changed since the revision from which the change was made.
pub const APP_CHANGED: &str = "app_changed";
/// What is advised when the peer did not say: long enough for a queue to empty or a node to come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Why a call to a peer has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Too much waits for the peer already; the call was not sent.
    #[error("too many calls to the {0} are waiting")]
    Full(Role),
    /// The peer could not be reached or did not answer in time. Whether the call was done is not known.
    #[error("the {role}{} does not answer: {detail}", OfNode(.node))]
    Unavailable {
        /// What the peer is.
        role: Role,
        /// Which one it was, if one was chosen.
        node: Option<NodeId>,
        /// What was seen.
        detail: Arc<str>,
    },
    /// The cluster has no such node; the call was not sent.
    #[error("the cluster has no such {0}")]
    NoNode(Role),
    /// The peer answered that it did not do it, and why.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The peer failed the whole call.
    #[error("the {role}{} failed: {message} ({code:?})", OfNode(.node))]
    Status {
        /// What the peer is.
        role: Role,
        /// Which one it was.
        node: Option<NodeId>,
        /// Its status.
        code: Code,
        /// Its words.
        message: Arc<str>,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
    /// This process is shutting down; the call was not sent.
    #[error("this node is shutting down")]
    ShuttingDown,
}

struct OfNode<'a>(&'a Option<NodeId>);

impl fmt::Display for OfNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |node| write!(f, " {node}"))
    }
}

/// Whether a call that failed may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again, or is for whoever asked to decide.
    Never,
    /// It may have been done: only if doing it twice does no harm.
    IfIdempotent,
    /// It was certainly not done.
    Always,
}

/// What an error means outside: one row of the table that [`PeerError::outcome`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Status of an HTTP answer.
    pub http: StatusCode,
    /// Status of a gRPC answer.
    pub grpc: Code,
    /// Metric label; few and fixed.
    pub label: &'static str,
    /// When whoever asked may come back.
    pub retry_after: Option<Duration>,
    /// Whether this process itself may try again.
    pub retry: Retry,
}

impl PeerError {
    /// The one mapping to HTTP status, gRPC code, metric label, retry-after and retry.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let busy = |label, retry| Outcome {
            http: StatusCode::SERVICE_UNAVAILABLE,
            grpc: Code::Unavailable,
            label,
            retry_after: Some(COME_BACK),
            retry,
        };
        match self {
            // Not retried here: who waits in a full queue's retry loop only makes the queue longer.
            Self::Full(_) => Outcome { grpc: Code::ResourceExhausted, ..busy("full", Retry::Never) },
            Self::Unavailable { .. } => busy("unavailable", Retry::IfIdempotent),
            Self::NoNode(_) => busy("no_node", Retry::Always),
            Self::ShuttingDown => busy("shutting_down", Retry::Never),
            Self::Refused(refusal) => refused(refusal),
            Self::Status { code, retry_after, .. } => {
                Outcome { label: "status", ..status(*code, *retry_after) }
            }
        }
    }

    /// A word for the API's error body; for a refusal it is the peer's.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Full(_) => "overloaded",
            Self::Unavailable { .. } | Self::NoNode(_) | Self::ShuttingDown => "unavailable",
            Self::Refused(refusal) => &refusal.code,
            Self::Status { code: Code::ResourceExhausted, .. } => "overloaded",
            Self::Status { .. } => "internal",
        }
    }

    /// What became of a batch: a failed transport is not the same as a peer that answers "no".
    pub(crate) fn from_status(role: Role, node: NodeId, status: &Status) -> Self {
        let lost = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded);
        // Only a status that was made on this side, out of a transport's error, has a source.
        if lost || status.source().is_some() {
            let detail = status.source().map_or_else(|| status.message().into(), |s| s.to_string().into());
            return Self::Unavailable { role, node: Some(node), detail };
        }
        let retry_after = status.metadata().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        Self::Status {
            role,
            node: Some(node),
            code: status.code(),
            message: status.message().into(),
            retry_after: retry_after.map(Duration::from_millis),
        }
    }

    /// What became of one item.
    pub(crate) fn from_call(role: Role, node: NodeId, error: CallError<Self>) -> Self {
        match error {
            CallError::Full => Self::Full(role),
            // The node has just left the picture: as if it had not been there.
            CallError::Closed => Self::NoNode(role),
            CallError::Lost => {
                Self::Unavailable { role, node: Some(node), detail: "its answer lacks this call".into() }
            }
            CallError::Failed(error) => error,
        }
    }

    /// How `flow::retry` is to go on.
    pub(crate) fn into_attempt(self, idempotent: bool) -> Attempt<Self> {
        let outcome = self.outcome();
        match outcome.retry {
            Retry::Never => Attempt::Stop(self),
            Retry::IfIdempotent if !idempotent => Attempt::Stop(self),
            _ => match &self {
                // Advice for whoever asked is not a wish of the peer.
                Self::Status { retry_after: Some(least), .. } => {
                    let least = *least;
                    Attempt::After(self, least)
                }
                _ => Attempt::Again(self),
            },
        }
    }

    pub(crate) fn from_gave_up(role: Role, gave_up: GaveUp<Self>) -> Self {
        match gave_up {
            GaveUp::Cancelled(_) => Self::ShuttingDown,
            GaveUp::Stopped(e) | GaveUp::Deadline(Some(e)) => e,
            GaveUp::Deadline(None) => Self::deadline(role),
        }
    }

    pub(crate) fn deadline(role: Role) -> Self {
        Self::Unavailable { role, node: None, detail: "the deadline passed".into() }
    }
}

/// A refusal's code is the word of the API; those that are not listed are the peer's trouble, or for good.
fn refused(refusal: &Refusal) -> Outcome {
    let retry_after =
        (refusal.retry_after_ms > 0).then(|| Duration::from_millis(refusal.retry_after_ms.into()));
    let (http, grpc) = match refusal.code.as_str() {
        "unauthenticated" => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
        "forbidden" => (StatusCode::FORBIDDEN, Code::PermissionDenied),
        "rate_limited" => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        code if code.starts_with("unknown_") || code == "not_found" => {
            (StatusCode::NOT_FOUND, Code::NotFound)
        }
        code if code.ends_with("_taken") || code == "conflict" => (StatusCode::CONFLICT, Code::AlreadyExists),
        code if code.ends_with("too_large") => (StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument),
        _ if retry_after.is_some() => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        _ => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
    };
    Outcome { http, grpc, label: "refused", retry_after, retry: Retry::Never }
}

fn status(code: Code, retry_after: Option<Duration>) -> Outcome {
    let (http, retry) = match code {
        // The peer shed the call before it did anything.
        Code::ResourceExhausted => (StatusCode::SERVICE_UNAVAILABLE, Retry::Always),
        Code::Aborted => (StatusCode::SERVICE_UNAVAILABLE, Retry::IfIdempotent),
        // The rest is a bug on one side or the other, which trying again does not mend.
        _ => (StatusCode::INTERNAL_SERVER_ERROR, Retry::Never),
    };
    let busy = http == StatusCode::SERVICE_UNAVAILABLE;
    Outcome {
        http,
        grpc: if busy { code } else { Code::Internal },
        label: "status",
        retry_after: retry_after.or(busy.then_some(COME_BACK)),
        retry,
    }
}

impl From<PeerError> for Status {
    fn from(error: PeerError) -> Self {
        let outcome = error.outcome();
        let mut status = Status::new(outcome.grpc, error.to_string());
        if let Some(after) = outcome.retry_after {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            status.metadata_mut().insert(RETRY_AFTER, ms.into());
        }
        status
    }
}

impl From<Refusal> for PeerError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, retry_after_ms: u32) -> PeerError {
        PeerError::Refused(Refusal { code: code.into(), message: "m".into(), retry_after_ms })
    }

    #[test]
    fn refusals_map_by_their_code() {
        for (code, after, http) in [
            ("unknown_app", 0, 404),
            ("key_taken", 0, 409),
            ("payload_too_large", 0, 413),
            ("rate_limited", 200, 429),
            ("archive_down", 500, 503),
            ("bad_audience", 0, 400),
        ] {
            let outcome = refusal(code, after).outcome();
            assert_eq!(outcome.http.as_u16(), http, "{code}");
            assert_eq!(outcome.retry_after.is_some(), after > 0, "{code}");
        }
    }

    #[test]
    fn what_was_shed_before_it_was_done_is_tried_again_when_the_peer_said() {
        let mut shed = Status::resource_exhausted("busy");
        shed.metadata_mut().insert(RETRY_AFTER, 250.into());
        let error = PeerError::from_status(Role::Saver, NodeId(3), &shed);
        assert!(matches!(error.clone().into_attempt(false), Attempt::After(_, d) if d.as_millis() == 250));
        assert_eq!(error.to_string(), "the saver 3 failed: busy (ResourceExhausted)");
    }

    #[test]
    fn only_idempotent_calls_are_repeated_after_an_unknown_end() {
        let error = PeerError::from_status(Role::Saver, NodeId(3), &Status::unavailable("gone"));
        assert!(matches!(error.clone().into_attempt(false), Attempt::Stop(_)));
        assert!(matches!(error.into_attempt(true), Attempt::Again(_)));
        assert!(matches!(PeerError::NoNode(Role::Saver).into_attempt(false), Attempt::Again(_)));
    }

    #[test]
    fn a_status_passes_on_when_to_come_back() {
        let status = Status::from(refusal("archive_down", 500));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get(RETRY_AFTER).unwrap(), "500");
    }
}
