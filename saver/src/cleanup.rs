//! Keeps the archive small, in bounded steps: marks what is over, and forgets what finished long ago.
//!
//! Whether a message is over is decided by its time wherever it is read; the walk only frees its payload and its
//! place in the index. So it may be slow.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wire::id::MessageId;

use crate::{archive::Archive, engine::Engine, error::Refused, inbox::InboxStore, model::Row};

/// Rows that one step looks at: a few milliseconds of a reader, and of the writer if all of them are to go.
const STEP: usize = 2_000;
/// Multicasts in a step; each may lose up to a thousand rows.
const MULTICASTS: usize = 4;
/// Pause between rounds: the index of stored messages is walked at most this often.
const ROUND: Duration = Duration::from_secs(10);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// How clean-up works.
#[derive(Clone, Copy, Debug)]
pub struct CleanupSettings {
    /// How long what has finished is kept.
    pub retention: Duration,
    /// Rows looked at in a second.
    pub per_second: usize,
}

/// A part of clean-up. Savers that share an archive share the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Marks stored deliveries that are over.
    Expire = 0,
    /// Forgets finished deliveries to one user.
    Unicast = 1,
    /// Forgets multicasts.
    Multicast = 2,
    /// Forgets idempotency keys and broadcasts.
    Over = 3,
}

/// Cleans up `mine` until `cancel`.
pub async fn run<I: InboxStore, A: Archive>(
    engine: Engine<I, A>,
    settings: impl Fn() -> CleanupSettings,
    mine: impl Fn(Part) -> bool,
    cancel: CancellationToken,
) {
    let rounds = async {
        loop {
            tokio::time::sleep(ROUND).await;
            match round(&engine, settings(), &mine).await {
                Ok(gone) => debug!(rows = gone, "cleaned up"),
                Err(e) => {
                    warn!(error = %e, "clean-up was cut short");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(rounds).await;
}

/// One round over everything, at the set pace. Answers how many rows were expired or forgotten.
///
/// # Errors
/// When the archive fails; the next round begins anew.
pub async fn round<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    settings: CleanupSettings,
    mine: &impl Fn(Part) -> bool,
) -> Result<u64, Refused> {
    let pace = || tokio::time::sleep(Duration::from_secs_f64(STEP as f64 / settings.per_second as f64));
    let mut gone = 0;
    let mut place = None;
    while mine(Part::Expire) {
        let (expired, next) = engine.expire_step(place, STEP).await?;
        gone += expired as u64;
        place = next;
        if place.is_none() {
            break;
        }
        pace().await;
    }
    let retention = u64::try_from(settings.retention.as_millis()).unwrap_or(u64::MAX);
    let before = engine.now_ms().saturating_sub(retention);
    let mut row = Row(0);
    while mine(Part::Unicast) {
        let (forgotten, next) = engine.forget_unicast_step(row, before, STEP).await?;
        gone += forgotten;
        match next {
            Some(next) => row = next,
            None => break,
        }
        pace().await;
    }
    let mut id = MessageId(0);
    while mine(Part::Multicast) {
        let (forgotten, next) = engine.forget_multicast_step(id, before, MULTICASTS).await?;
        gone += forgotten;
        match next {
            Some(next) => id = next,
            None => break,
        }
        pace().await;
    }
    // An idempotency key says itself how long it holds.
    if mine(Part::Over) {
        gone += engine.forget_over(engine.now_ms(), before).await?;
    }
    Ok(gone)
}
