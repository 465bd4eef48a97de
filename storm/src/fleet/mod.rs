//! Many devices on few threads, and the handle by which a scenario steers them.
//!
//! A worker is one event loop. It runs as a thread of this process while the devices fit into the limit of open
//! files, and otherwise in processes of its own; [`Fleet`] hides which.

mod broadcasts;
mod counts;
mod flags;
mod interval;
mod launch;
pub mod line;
mod link;
mod spec;

pub use broadcasts::Tally;
pub use counts::{Counts, SharedCounts};
pub use flags::LineOptions;
pub use interval::Interval;
pub use launch::{Fleet, Reader, Workers};
pub use line::LineSpec;
pub use link::Commands;
pub use spec::{Command, FleetSpec, Receipt, Report, Route, Snapshot, Sources, Tokens, uid};

pub(crate) use event_loop::{open as dial, start};
pub(crate) use launch::SUBCOMMAND;
#[cfg(test)]
pub(crate) use spec::example;

mod event_loop;
