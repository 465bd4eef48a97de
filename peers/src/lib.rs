//! How the services call each other.
//!
//! [`Savers`], [`Registers`], [`Rooms`], [`Coordinators`] and [`Centers`] stand for all nodes of a role: a caller hands in one item and
//! gets its result, and which node that takes, how it is batched with others, and whether it is tried again is
//! done here:
//!
//! * **Routing.** What has an owner goes to its owner by rendezvous hashing, in the picture of the moment; nodes that
//!   come and go are followed.
//! * **Batches.** To each node and for each kind of call there is one [`flow::Batcher`]: bounded, sent at once while few
//!   are in flight. All share one HTTP/2 connection to the node: requests are few and large, so a second
//!   connection would gain nothing.
//! * **Parcels.** Who has many items of a kind at hand hands them in together ([`Registers::bind_all`],
//!   [`Savers::load_all`]): one call to each owner, one attempt, and an answer for each; what did not succeed goes on by itself.
//! * **Retries.** Calls that may be repeated are, with jittered back-off, until their deadline.
//! * **Errors.** [`PeerError::outcome`] says what a failure means for HTTP, gRPC, metrics and retry.
//!
//! A call whose future is dropped may still be done. Cancelling the token given at construction ends all tasks;
//! `closed()` waits for them.
//!
//! [`AppDirectory`] keeps the apps at hand.

mod call;
mod centers;
mod coordinators;
mod directory;
mod error;
mod first;
mod limits;
mod links;
mod metrics;
mod registers;
mod role;
mod rooms;
mod savers;
#[cfg(test)]
mod tests;
mod wire;

pub use centers::Centers;
pub use coordinators::Coordinators;
pub use directory::AppDirectory;
pub use error::{APP_CHANGED, Outcome, PeerError, RETRY_AFTER, Retry};
pub use first::{Again, First};
pub use limits::Limits;
pub use metrics::PeerMetrics;
pub use registers::{Registers, membership};
pub use rooms::{Rooms, Told, add_progress};
pub use savers::{SHARED, Savers, TargetsPage, TargetsPlace};
