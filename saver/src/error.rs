//! Why something was refused, and what the caller is told: the one place that maps errors to answers.

use proto::internal::Refusal;

use crate::{archive::ArchiveError, inbox::InboxError};

/// Why something was not done. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A queue of the saver is full.
    #[error("the saver has more to write than it may hold")]
    Busy,
    /// The saver is ending.
    #[error("the saver is ending")]
    Ending,
    /// The key belongs to another saver.
    #[error("another saver owns this")]
    NotOwner,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The inbox store failed.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The request can never be done as it is.
    #[error("{message}")]
    Bad {
        /// Stable word.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Refused {
    /// A request that can never be done as it is.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::Bad { code, message: message.into() }
    }

    /// Stable word for callers and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Busy | Refused::Inbox(InboxError::Full | InboxError::Absent) => "busy",
            Refused::Ending => "ending",
            Refused::NotOwner => "not_owner",
            Refused::Archive(ArchiveError::DiskFull) => "archive_full",
            Refused::Archive(ArchiveError::Locked) => "archive_locked",
            Refused::Archive(ArchiveError::Corrupt(_)) => "archive_damaged",
            Refused::Archive(ArchiveError::Conflict(_)) => "archive_conflict",
            Refused::Archive(ArchiveError::Io(_)) => "archive_unavailable",
            Refused::Inbox(InboxError::Behind) => "archive_behind",
            Refused::Inbox(InboxError::Changing) => "inboxes_rebuilding",
            Refused::Inbox(InboxError::Unavailable(_)) => "inboxes_unavailable",
            Refused::Bad { code, .. } => code,
        }
    }

    /// When to try again; `None` is never as it is.
    pub fn retry_after_ms(&self) -> Option<u32> {
        match self {
            // The writer empties a full queue in about this time.
            Refused::Busy | Refused::Inbox(InboxError::Full | InboxError::Absent) => Some(200),
            Refused::Ending | Refused::NotOwner | Refused::Inbox(InboxError::Changing) => Some(200),
            // A full journal holds some seconds of the archive's work.
            Refused::Inbox(InboxError::Behind) => Some(1_000),
            Refused::Archive(ArchiveError::Locked | ArchiveError::Conflict(_)) => Some(500),
            Refused::Archive(ArchiveError::Io(_)) | Refused::Inbox(InboxError::Unavailable(_)) => Some(2_000),
            // Somebody has to make room first.
            Refused::Archive(ArchiveError::DiskFull) => Some(5_000),
            // Somebody has to restore the file first.
            Refused::Archive(ArchiveError::Corrupt(_)) => Some(30_000),
            Refused::Bad { .. } => None,
        }
    }

    /// Whether an operator must look.
    pub fn is_alarming(&self) -> bool {
        matches!(
            self,
            Refused::Archive(ArchiveError::DiskFull | ArchiveError::Corrupt(_) | ArchiveError::Io(_))
        )
    }
}

impl From<&Refused> for Refusal {
    fn from(refused: &Refused) -> Self {
        Self {
            code: refused.code().to_owned(),
            message: refused.to_string(),
            retry_after_ms: refused.retry_after_ms().unwrap_or(0),
        }
    }
}

/// For calls whose answer has no place for a refusal.
impl From<Refused> for tonic::Status {
    fn from(refused: Refused) -> Self {
        let text = format!("{}: {refused}", refused.code());
        let mut status = match refused {
            Refused::Busy | Refused::Inbox(InboxError::Full | InboxError::Behind) => {
                tonic::Status::resource_exhausted(text)
            }
            Refused::Bad { .. } => tonic::Status::invalid_argument(text),
            _ => tonic::Status::unavailable(text),
        };
        if let Some(ms) = refused.retry_after_ms() {
            status.metadata_mut().insert(peers::RETRY_AFTER, ms.into());
        }
        status
    }
}
