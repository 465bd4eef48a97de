//! Waiting for what comes by itself.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

/// Between two looks. Short beside what is waited for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until it succeeds.
///
/// # Errors
/// When it did not within this time; says what was waited for and why the last look failed.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {within:?}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
