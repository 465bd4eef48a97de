//! What a register's callers are told when something is wrong.

use peers::RETRY_AFTER;
use tonic::Status;
use wire::limits::MAX_UID_BYTES;

use crate::shard::StoreFull;

/// Long enough for an operator's alarm, short enough that devices notice when it is over.
const FULL_RETRY_AFTER_MS: u64 = 10_000;

/// Why a batch was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// A room or center that did not check what it got: a bug there.
    #[error("items[{item}].uid has {bytes} bytes; it must have 1 to {MAX_UID_BYTES}")]
    BadUid { item: usize, bytes: usize },
    #[error(transparent)]
    Full(#[from] StoreFull),
}

impl From<RegisterError> for Status {
    fn from(error: RegisterError) -> Status {
        match &error {
            RegisterError::BadUid { .. } => Status::invalid_argument(error.to_string()),
            RegisterError::Full(_) => {
                let mut status = Status::resource_exhausted(error.to_string());
                status.metadata_mut().insert(RETRY_AFTER, FULL_RETRY_AFTER_MS.into());
                status
            }
        }
    }
}
