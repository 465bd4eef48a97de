//! A fixed number of workers behind a bounded queue.

#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Backoff, FlowMetrics, Full, metrics::QueueMetrics};

/// Bounds of a [`Pool`]: worst case `workers` items being handled and `queue` waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Items handled at a time.
    pub workers: usize,
    /// Items that may wait.
    pub queue: usize,
}

/// What becomes of an item that meets a full queue; named when the pool is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AtBound {
    /// [`Pool::submit`] tries again with `backoff` for as long as `patience`, then sheds.
    Retry {
        /// Waits between the tries.
        backoff: Backoff,
        /// How long to try in all.
        patience: Duration,
    },
    /// The caller is told to come back.
    Shed {
        /// When it may.
        retry_after: Duration,
    },
    /// The item is handed back to be put elsewhere (a disk, a stream).
    Spill,
}

/// An item that [`Pool::submit`] did not place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bounced<T> {
    /// The pool is full: tell who sent it to come back.
    Shed {
        /// The item.
        item: T,
        /// When to come back.
        retry_after: Duration,
    },
    /// The pool is full: put the item where such things go.
    Spill(T),
    /// The pool has ended.
    Closed(T),
}

impl<T> Bounced<T> {
    /// The item back, whatever became of it.
    pub fn into_item(self) -> T {
        match self {
            Self::Shed { item, .. } | Self::Spill(item) | Self::Closed(item) => item,
        }
    }
}

struct Shared<T> {
    name: &'static str,
    bound: usize,
    at_bound: AtBound,
    queue: Mutex<Queue<T>>,
    /// One permit for each item in the queue: workers sleep on it.
    ready: Semaphore,
    metrics: QueueMetrics,
}

struct Queue<T> {
    items: VecDeque<(Instant, T)>,
    closed: bool,
}

/// A handle to a pool; clones share it.
///
/// The pool lives until its token is cancelled: then workers finish what they have begun, and the [`JoinHandle`]
/// answers what had not been begun, for its owner to spill or to refuse.
pub struct Pool<T>(Arc<Shared<T>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.0.name)
            .field("at_bound", &self.0.at_bound)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Starts the workers. Metrics are those of `metrics` under `name`.
    pub fn spawn<F, Fut>(
        name: &'static str,
        limits: PoolLimits,
        at_bound: AtBound,
        metrics: &FlowMetrics,
        cancel: CancellationToken,
        handler: F,
    ) -> (Self, JoinHandle<Vec<T>>)
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            name,
            bound: limits.queue.max(1),
            at_bound,
            queue: Mutex::new(Queue { items: VecDeque::new(), closed: false }),
            ready: Semaphore::new(0),
            metrics: metrics.queue(name),
        });
        let owner = worker::own(Arc::clone(&shared), limits.workers.max(1), cancel, handler);
        (Self(shared), tokio::spawn(owner))
    }

    /// Queues an item without waiting, whatever the policy.
    ///
    /// # Errors
    /// [`Full`] gives the item back; a pool that has ended is full for ever ([`Pool::is_closed`]).
    pub fn offer(&self, item: T) -> Result<(), Full<T>> {
        self.0.place(item).map_err(|item| {
            self.0.metrics.refused.inc();
            Full(item)
        })
    }

    /// Queues an item, and does at the bound what the policy names.
    ///
    /// # Errors
    /// [`Bounced`] gives the item back and says what to do with it.
    pub async fn submit(&self, item: T) -> Result<(), Bounced<T>> {
        let item = match self.0.place(item) {
            Ok(()) => return Ok(()),
            Err(item) if self.is_closed() => return Err(Bounced::Closed(item)),
            Err(item) => item,
        };
        match self.0.at_bound {
            AtBound::Shed { retry_after } => {
                self.0.metrics.shed.inc();
                Err(Bounced::Shed { item, retry_after })
            }
            AtBound::Spill => {
                self.0.metrics.spilled.inc();
                Err(Bounced::Spill(item))
            }
            AtBound::Retry { backoff, patience } => self.place_patiently(item, backoff, patience).await,
        }
    }

    async fn place_patiently(
        &self,
        mut item: T,
        backoff: Backoff,
        patience: Duration,
    ) -> Result<(), Bounced<T>> {
        let deadline = Instant::now() + patience;
        for attempt in 0.. {
            let next = Instant::now() + backoff.delay(attempt, &mut rand::rng());
            if next > deadline {
                break;
            }
            self.0.metrics.retried.inc();
            tokio::time::sleep_until(next).await;
            item = match self.0.place(item) {
                Ok(()) => return Ok(()),
                Err(item) if self.is_closed() => return Err(Bounced::Closed(item)),
                Err(item) => item,
            };
        }
        self.0.metrics.shed.inc();
        Err(Bounced::Shed { item, retry_after: backoff.cap })
    }

    /// Items that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.lock().items.len()
    }

    /// Whether the pool has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // No code that could panic runs under the lock, so the queue is whole even if a holder did.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.closed || queue.items.len() >= self.bound {
            return Err(item);
        }
        queue.items.push_back((Instant::now(), item));
        drop(queue);
        self.metrics.depth.inc();
        self.ready.add_permits(1);
        Ok(())
    }
}
