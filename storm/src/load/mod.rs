//! What an app's backend does: pushes, broadcasts, questions about them. Over gRPC, or pushes over HTTP too.

mod centers;
mod failure;
mod http_push;
mod window;

pub use centers::{ApiOptions, Centers};
pub use failure::{Failure, Fate};
pub(crate) use window::key;
pub use window::{PushPlan, PushReport, Pusher};
