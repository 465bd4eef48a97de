//! How work moves between tasks: bounded queues, batches, retries and rates.
//!
//! Every queue here has a bound and a named outcome when it is full, and no work item costs a task:
//!
//! * [`Batcher`] packs single requests into batches and gives every caller its own answer. It adds no delay:
//!   a batch leaves at once while fewer than K are in flight, and grows only while all K are.
//! * [`Pool`] is a fixed number of workers behind a bounded queue, with a named policy at the bound.
//! * [`Backoff`] and [`retry`] try again with jitter, a cap, a deadline and cancellation.
//! * [`TokenBucket`] limits a rate.
//! * [`FlowMetrics`] counts what all of these do.

mod backoff;
mod batcher;
mod bucket;
mod metrics;
mod pool;
mod retry;

pub use backoff::Backoff;
pub use batcher::{BatchLimits, Batcher, Builder, CallError, Full, Reply};
pub use bucket::TokenBucket;
pub use metrics::FlowMetrics;
pub use pool::{AtBound, Bounced, Pool, PoolLimits};
pub use retry::{Attempt, GaveUp, Retries, retry};
