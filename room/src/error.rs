//! What can go wrong with a call to a room, and what the caller is told.

use tonic::Status;

use crate::{backend::NoticeError, event_loop::NotTaken};

/// Why a call was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// Too much waits; nothing was done.
    #[error("the room is busy: {0}")]
    Busy(&'static str),
    /// The room is ending.
    #[error("the room is shutting down")]
    Ending,
    /// A field that cannot be read.
    #[error("{0}")]
    Invalid(&'static str),
}

impl From<RoomError> for Status {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Busy(_) => Self::resource_exhausted(error.to_string()),
            RoomError::Ending => Self::unavailable(error.to_string()),
            RoomError::Invalid(_) => Self::invalid_argument(error.to_string()),
        }
    }
}

impl From<NotTaken> for RoomError {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::Full => Self::Busy("too many orders wait for a thread"),
            NotTaken::Gone => Self::Ending,
        }
    }
}

impl From<NoticeError> for RoomError {
    fn from(error: NoticeError) -> Self {
        match error {
            NoticeError::Full => Self::Busy("too many broadcasts wait to be handed to the threads"),
            NoticeError::Ending => Self::Ending,
        }
    }
}
