//! What can go wrong between us and etcd.

use std::path::PathBuf;

use tonic::Code;

/// Why etcd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A wrong value of an option.
    #[error("{field}: {reason}")]
    Options {
        /// Field of [`super::EtcdOptions`].
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key that cannot be read.
    #[error("{path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// No member answers. Trying again later helps.
    #[error("etcd does not answer: {0}")]
    Away(String),
    /// A member answered, with a refusal.
    #[error("etcd refused: {0}")]
    Refused(String),
    /// The lease is over.
    #[error("etcd has ended the lease")]
    LeaseOver,
    /// Somebody else changed it at the same time.
    #[error("somebody else changed it at the same time: look at it again")]
    Conflict,
    /// What lies under a key is not what this program put there.
    #[error("{key}: {reason}")]
    Malformed {
        /// The key.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
}

impl EtcdError {
    /// Whether another member, or the same one later, may answer better.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, EtcdError::Away(_))
    }
}

impl From<etcd_client::Error> for EtcdError {
    fn from(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => match status.code() {
                Code::NotFound => EtcdError::LeaseOver,
                Code::InvalidArgument
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unauthenticated
                | Code::Unimplemented => EtcdError::Refused(status.message().to_owned()),
                _ => EtcdError::Away(one_line(status.message())),
            },
            // The client has no better sign of it than this word.
            etcd_client::Error::LeaseKeepAliveError(reason) if reason == "lease not found" => {
                EtcdError::LeaseOver
            }
            other => EtcdError::Away(one_line(&other.to_string())),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
