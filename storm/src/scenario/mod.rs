//! What a storm can do, each a function of its options that answers with a report.

pub mod broadcast;
pub mod connect;
mod opened;
mod options;
mod progress;
pub mod push;
mod tokens;
pub mod verify;

pub use opened::Opening;
pub(crate) use options::defaults;
pub use options::{Api, Devices};
