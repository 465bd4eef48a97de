//! The register: the cluster's session store, which knows where each user is.

mod homes;
mod records;
mod shard;
mod store;

pub use homes::{Ended, RoomLife};
pub use shard::{Bind, Bound, Displaced, StoreFull, Whereabouts};
pub use store::Store;
