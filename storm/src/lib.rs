//! The load generator and judge of Longwire.
//!
//! - [`fleet`]: many devices in one event loop, or in several processes: the SDK's own session state machine
//!   on a plain `mio` poll;
//! - [`load`]: pushes and broadcasts at a rate or with a window, as an app's backend makes them;
//! - [`judge`]: the books: what was accepted, what came, and what does not agree;
//! - [`scenario`]: `connect`, `push`, `broadcast` and [`verify`], each a function of its options, and `run`, which does
//!   what a file says;
//! - [`report`]: what a run was like, as text, as JSON and as one HTML page with plots;
//! - [`floor`]: what the kernel allows, for comparison.
//!
//! A test harness calls [`verify::run`] in its own process.

pub mod cli;
pub mod clock;
pub mod fleet;
pub mod floor;
pub mod http;
pub mod judge;
pub mod latency;
pub mod limits;
pub mod load;
pub mod pacing;
pub mod payload;
pub mod procfs;
pub mod report;
pub mod scenario;
pub mod tokens;
pub mod worker;

pub use scenario::verify;
