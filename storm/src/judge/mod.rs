//! The judge's bookkeeping: plain data, fed with what was accepted and what came. It finds loss, doubles and
//! disorder, and knows nothing of sockets or time.

mod arrivals;
mod book;
mod findings;

pub use arrivals::Arrivals;
pub use book::Promised;
pub use findings::{Findings, Stream, Violation};
