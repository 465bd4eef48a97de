//! Streams of a broadcast's progress.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, Stream, future::BoxFuture, future::Shared, stream};
use proto::{
    internal::{App, JobState},
    v1,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    parts::Parts,
    reach::Reach,
    ring,
    state::{Snapshot, Wanted},
};
use crate::{
    error::{Error, Result},
    limits::{Budget, Held},
};

/// From one look to the next while there is something new each time.
const QUICK: Duration = Duration::from_millis(250);
/// While there is not.
const SLOW: Duration = Duration::from_secs(1);
/// After a look that failed.
const FAILED: Duration = Duration::from_secs(2);
/// A look that began no longer ago serves all who look at the same broadcast then: what a center asks of savers goes with the broadcasts
/// that are watched, and not with those who watch. Half of [`QUICK`], so that who follows one sees it move each time.
const FRESH: Duration = Duration::from_millis(125);
/// So long after its end a broadcast may still come to rooms that were not told of it at once.
const SETTLE_MS: u64 = 3_000;

/// The streams of a center. Clones share the bound.
#[derive(Clone)]
pub(crate) struct Watchers {
    reach: Reach,
    parts: Parts,
    places: Budget,
    looks: Arc<Mutex<HashMap<Wanted, (Instant, Look)>>>,
    stop: CancellationToken,
}

/// A look at a broadcast that is under way, or was taken just now; none if there is no such job.
type Look = Shared<BoxFuture<'static, Result<Option<Snapshot>>>>;

/// One stream.
pub struct Watch {
    of: Watchers,
    app: Arc<App>,
    id: u64,
    bseq: u64,
    last: Option<v1::BroadcastState>,
    next: Instant,
    pause: Duration,
    over: bool,
    _place: Held,
}

impl Watchers {
    pub(crate) fn new(reach: Reach, parts: Parts, most: usize, stop: CancellationToken) -> Watchers {
        Watchers {
            reach,
            parts,
            places: Budget::new("streams of progress", most),
            looks: Arc::default(),
            stop,
        }
    }

    /// Looks at a broadcast, together with all who look at it now.
    pub(crate) fn look(&self, wanted: Wanted) -> Look {
        let now = Instant::now();
        let begin = || {
            let (reach, parts) = (self.reach.clone(), self.parts.clone());
            let look = async move { Snapshot::read(&reach, &parts, wanted).await };
            (now, look.boxed().shared())
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, (since, _)| now.duration_since(*since) < FRESH);
        looks.entry(wanted).or_insert_with(begin).1.clone()
    }

    /// Begins a stream, which has a place among those of the center until it is dropped.
    pub(crate) fn open(&self, app: Arc<App>, id: u64, bseq: u64) -> Result<Watch> {
        let place = self.places.take(1)?;
        self.reach.metrics.watchers_opened.inc();
        Ok(Watch {
            of: self.clone(),
            app,
            id,
            bseq,
            last: None,
            next: Instant::now(),
            pause: QUICK,
            over: false,
            _place: place,
        })
    }
}

impl Watch {
    /// The state now, and each time that it has changed, until the broadcast is over or the center stops.
    pub(crate) fn states(self) -> impl Stream<Item = v1::BroadcastState> + Send {
        stream::unfold(self, |mut watch| async move {
            let state = watch.next_state().await?;
            Some((state, watch))
        })
    }

    async fn next_state(&mut self) -> Option<v1::BroadcastState> {
        let stop = self.of.stop.clone();
        loop {
            if self.over {
                return None;
            }
            stop.run_until_cancelled(sleep_until(self.next)).await?;
            let wanted = Wanted { app: self.app.id, id: self.id };
            let read = stop.run_until_cancelled(self.of.look(wanted)).await?;
            let now = Instant::now();
            match read {
                Ok(Some(snapshot)) => {
                    self.over = is_over(&snapshot, self.of.reach.now_ms());
                    let state = snapshot.to_state(&self.app, self.bseq);
                    let news = self.last.as_ref() != Some(&state);
                    self.pause = if news { QUICK } else { (self.pause * 2).min(SLOW) };
                    self.next = now + self.pause;
                    if news {
                        self.last = Some(state.clone());
                        return Some(state);
                    }
                }
                // It was never there, or of before there were jobs: there is nothing to wait for.
                Ok(None) => return None,
                Err(Error::Peer(error)) => {
                    tracing::debug!(id = self.id, %error, "a broadcast's progress could not be read");
                    self.next = now + FAILED;
                }
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.of.reach.metrics.watchers_closed.inc();
    }
}

/// Whether nothing more can be told of it: nothing is released any more, and all that were sent to have answered, or the time is
/// over.
fn is_over(snapshot: &Snapshot, now_ms: u64) -> bool {
    let job = &snapshot.job;
    let settled = now_ms >= job.ended_ms.saturating_add(SETTLE_MS);
    match job.state() {
        JobState::Cancelled | JobState::Recalled | JobState::Released if settled && !snapshot.arriving => {
            let complete = snapshot.missed.is_empty() && snapshot.stored == 0;
            complete || now_ms >= ring::last_expires_ms(job).saturating_add(SETTLE_MS)
        }
        _ => false,
    }
}
