//! What each close code, bind code and unbound reason asks of a device: one table, which the SDK follows,
//! the room's errors map into, and `docs/protocol.md` prints.

use crate::frame::{BindCode, CloseCode, UnboundReason};

/// Whether and where a device connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whither {
    /// Not at all, until something outside the connection has changed.
    Nowhere,
    /// The last good address first, then the dispatcher's.
    Anywhere,
    /// Another room: ask the dispatcher and name this address as tried.
    Elsewhere,
}

/// How long a device waits before it connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The first step of the back-off: a jittered moment.
    Brief,
    /// The back-off with all its earlier failures counted, so that a faulty device cannot circle fast.
    Backoff,
    /// `retry_after_ms` of the frame if it is not 0, but never less than the back-off.
    AsTold,
}

/// What a close code asks of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Whether and where to connect again.
    pub whither: Whither,
    /// How long to wait before.
    pub wait: Wait,
}

impl CloseCode {
    /// Every code, in the order of the `.proto` file.
    pub const ALL: [Self; 11] = [
        Self::Unspecified,
        Self::GoingAway,
        Self::Busy,
        Self::BadFrame,
        Self::TooLarge,
        Self::BadVersion,
        Self::HandshakeTimeout,
        Self::HeartbeatTimeout,
        Self::TooFast,
        Self::Refused,
        Self::Slow,
    ];

    /// What this code asks of a device. A code that the device does not know is `Unspecified`.
    #[must_use]
    pub const fn advice(self) -> Advice {
        let (whither, wait) = match self {
            Self::Unspecified | Self::BadFrame | Self::TooLarge => (Whither::Anywhere, Wait::Backoff),
            Self::HandshakeTimeout => (Whither::Anywhere, Wait::Backoff),
            Self::GoingAway | Self::Busy => (Whither::Elsewhere, Wait::AsTold),
            Self::TooFast => (Whither::Anywhere, Wait::AsTold),
            Self::HeartbeatTimeout | Self::Slow => (Whither::Anywhere, Wait::Brief),
            Self::Refused => (Whither::Elsewhere, Wait::Backoff),
            Self::BadVersion => (Whither::Nowhere, Wait::Backoff),
        };
        Advice { whither, wait }
    }

    /// Name for logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::GoingAway => "going_away",
            Self::Busy => "busy",
            Self::BadFrame => "bad_frame",
            Self::TooLarge => "too_large",
            Self::BadVersion => "bad_version",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::TooFast => "too_fast",
            Self::Refused => "refused",
            Self::Slow => "slow",
        }
    }
}

/// What a device does about a bind that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindRetry {
    /// The same bind would fail again: report it to the app.
    Never,
    /// Ask the app for a new token and try again with back-off; give up after a few in a row.
    NewToken,
    /// Try again after `retry_after_ms`, but never sooner than the back-off.
    Later,
}

impl BindCode {
    /// What a device does about this code. A code that the device does not know is `Unspecified`.
    #[must_use]
    pub const fn retry(self) -> BindRetry {
        match self {
            Self::BadToken | Self::TokenExpired => BindRetry::NewToken,
            Self::Busy | Self::Unspecified => BindRetry::Later,
            Self::BadRequest
            | Self::UnknownApp
            | Self::WrongApp
            | Self::WrongUid
            | Self::TooMany
            | Self::Duplicate => BindRetry::Never,
        }
    }

    /// Name for logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::BadRequest => "bad_request",
            Self::UnknownApp => "unknown_app",
            Self::BadToken => "bad_token",
            Self::TokenExpired => "token_expired",
            Self::WrongApp => "wrong_app",
            Self::WrongUid => "wrong_uid",
            Self::TooMany => "too_many",
            Self::Busy => "busy",
            Self::Duplicate => "duplicate",
        }
    }
}

impl UnboundReason {
    /// Whether the device binds again by itself. After a replacement or a kick it must not: two devices of
    /// one user would throw each other out for ever.
    #[must_use]
    pub const fn binds_again(self) -> bool {
        matches!(self, Self::Lost | Self::Unspecified)
    }

    /// Name for logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Requested => "requested",
            Self::Replaced => "replaced",
            Self::Kicked => "kicked",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_code_once() {
        for (number, code) in CloseCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
        assert!(CloseCode::try_from(CloseCode::ALL.len() as i32).is_err());
    }

    #[test]
    fn only_a_version_that_is_too_old_ends_for_good() {
        for code in CloseCode::ALL {
            assert_eq!(code.advice().whither == Whither::Nowhere, code == CloseCode::BadVersion, "{code:?}");
        }
    }
}
