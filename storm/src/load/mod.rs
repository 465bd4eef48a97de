//! What an app's backend does: pushes, broadcasts, questions about them. Over gRPC, or pushes over HTTP too; and
//! messages straight to rooms.

mod centers;
mod failure;
mod http_push;
pub(crate) mod rooms;
mod window;

pub use centers::{ApiOptions, Centers};
pub use failure::{Failure, Fate};
pub use rooms::{RoomOptions, Rooms};
pub(crate) use window::key;
pub use window::{Live, PushPlan, PushReport, Pusher};
