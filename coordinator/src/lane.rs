//! A lane: one callback of one app, with its workers, breaker and bounds. Lanes share nothing that one of them
//! could use up: memory and disk have a part for each, and no worker serves two.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::{
    breaker::Breaker,
    config::Config,
    event::{Event, LaneKey},
    metrics::CoordinatorMetrics,
    spill::Spill,
    webhook::{Target, Webhooks},
};

mod attempt;
mod lanes;
mod worker;

pub(crate) use lanes::{Lanes, parts};

/// Where events of a lane go.
pub(crate) trait Targets: Send + Sync + 'static {
    /// The app's address for this kind of event.
    fn target(&self, lane: LaneKey) -> BoxFuture<'_, Result<Target, NoTarget>>;
}

/// Why there is nowhere to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTarget {
    /// There is no such app, or it does not want such events.
    #[error("the app has no address for this")]
    NotWanted,
    /// It is not known at this moment.
    #[error("the app cannot be looked up: {0}")]
    Unknown(String),
}

/// What every lane works with.
pub(crate) struct Tools {
    /// Read at every use: it may be changed.
    pub(crate) config: ArcSwap<Config>,
    pub(crate) spill: Arc<dyn Spill>,
    pub(crate) webhooks: Webhooks,
    pub(crate) targets: Arc<dyn Targets>,
    pub(crate) metrics: CoordinatorMetrics,
    /// Bytes on disk, of all lanes. Signed: what is replayed may be delivered before it is counted.
    pub(crate) spilled: AtomicI64,
}

/// What became of an event that a lane was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The backend or the durable queue has it.
    Taken,
    /// Nobody has it.
    Retry,
}

/// An event on its way to being taken.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) event: Event,
    pub(crate) since: Instant,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// The event's part of the lane's memory and of all.
    pub(crate) _memory: [OwnedSemaphorePermit; 2],
}

impl Job {
    fn answer(self, answer: Answer) {
        // Who asked may have gone; the event is where it is all the same.
        let _ = self.answer.send(answer);
    }
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    Job(Job),
    /// Something was put into the queue by another than the worker, as its flag says too: this only wakes it.
    LookAgain,
}

/// What the workers of a lane share.
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) tools: Arc<Tools>,
    pub(crate) breaker: Breaker,
    /// Bytes on disk; signed as that of all.
    pub(crate) spilled: AtomicI64,
    patience: Mutex<Patience>,
}

/// Whether callers wait for the backend. One that was slow lately is served from the queue: callers of other apps
/// are in the same batches and would wait too.
#[derive(Debug)]
struct Patience {
    lost_until: Option<Instant>,
    period: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(320);
}

impl Lane {
    pub(crate) fn new(key: LaneKey, tools: Arc<Tools>) -> Lane {
        let config = tools.config.load_full();
        let breaker = Breaker::new(config.webhook.breaker_failures, config.webhook.backoff());
        let patience = Mutex::new(Patience { lost_until: None, period: Patience::FIRST });
        Lane { key, tools, breaker, spilled: AtomicI64::new(0), patience }
    }

    /// How much longer the caller of an event that came at `since` may wait for the backend.
    fn patience(&self, since: Instant, now: Instant) -> Option<Instant> {
        let patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        let until = since + self.tools.config.load().direct_wait;
        (patience.lost_until.is_none_or(|lost| lost <= now) && now < until).then_some(until)
    }

    /// The backend was too slow for callers to wait.
    fn lose_patience(&self, now: Instant) {
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        if patience.lost_until.is_none_or(|lost| lost <= now) {
            patience.lost_until = Some(now + patience.period);
            patience.period = (patience.period * 2).min(Patience::LONGEST);
        }
    }

    fn regain_patience(&self) {
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        *patience = Patience { lost_until: None, period: Patience::FIRST };
    }

    /// Takes room on disk for as many of these sizes as fit, in their order. Returns how many.
    fn reserve(&self, sizes: impl Iterator<Item = u64>) -> usize {
        let config = self.tools.config.load();
        let bounds = &config.spill;
        // Two workers that look at once may go over by one batch each, which the bounds can bear.
        let fits = |spilled: &AtomicI64, size: u64, bound: u64| {
            let before = u64::try_from(spilled.load(Ordering::Relaxed)).unwrap_or(0);
            before.saturating_add(size) <= bound
        };
        let mut fit = 0;
        for size in sizes {
            if !fits(&self.spilled, size, bounds.app_bytes) || !fits(&self.tools.spilled, size, bounds.bytes)
            {
                break;
            }
            self.add_spilled(size);
            fit += 1;
        }
        fit
    }

    pub(crate) fn add_spilled(&self, bytes: u64) {
        self.change_spilled(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn sub_spilled(&self, bytes: u64) {
        self.change_spilled(-i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn change_spilled(&self, by: i64) {
        self.spilled.fetch_add(by, Ordering::Relaxed);
        let all = self.tools.spilled.fetch_add(by, Ordering::Relaxed).wrapping_add(by);
        self.tools.metrics.spilled_bytes.set(all);
    }
}

#[cfg(test)]
mod tests;
