//! What a storm can do, each a function of its options that answers with a report.

mod acks;
pub mod broadcast;
pub mod connect;
mod opened;
mod options;
mod progress;
pub mod push;
pub mod run;
pub mod script;
mod tokens;
pub mod unicast;
pub mod verify;

pub use opened::Opening;
pub(crate) use options::defaults;
pub use options::{Api, Devices};
