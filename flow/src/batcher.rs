//! Packing single requests into batches.

mod driver;
mod pace;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{FlowMetrics, metrics::QueueMetrics};
use driver::{Driver, Manner, Weight};

/// Bounds of a [`Batcher`]. Worst-case memory: `queue_items` waiting plus `in_flight` × `batch_items` being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Items that may wait; more are refused as [`Full`].
    pub queue_items: usize,
    /// Items in one batch.
    pub batch_items: usize,
    /// Batches under way at a time. While fewer are, an item is sent at once; 1 keeps the order of the items.
    pub in_flight: usize,
}

/// The queue is full; here is the item back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The queue was full; the item was not sent.
    #[error("the queue is full")]
    Full,
    /// The batcher has ended; the item was not sent.
    #[error("the queue is closed")]
    Closed,
    /// The item was sent but no answer will come: whether it was done is not known.
    #[error("the answer was lost")]
    Lost,
    /// The batch failed, with every item in it.
    #[error("{0}")]
    Failed(E),
}

type Answer<A, E> = Result<A, CallError<E>>;

struct Waiting<Q, A, E> {
    item: Q,
    since: Instant,
    answer: oneshot::Sender<Answer<A, E>>,
}

/// An answer that is still to come. Dropping it does not take the item back.
#[must_use = "the answer tells whether the item was done"]
pub struct Reply<A, E>(oneshot::Receiver<Answer<A, E>>);

impl<A, E> Future for Reply<A, E> {
    type Output = Answer<A, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(CallError::Lost)))
    }
}

impl<A, E> fmt::Debug for Reply<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A handle to a queue whose items are sent in batches; clones share it.
///
/// One task drives it: it sends as soon as there is an item and fewer than `in_flight` batches are out, and takes
/// whatever has gathered meanwhile otherwise. An idle system thus has batches of one and no added delay, a busy
/// one has large batches.
///
/// It ends when its token is cancelled or the last handle is dropped: what waits is answered [`CallError::Closed`],
/// what is in flight is waited for. So the `send` function must bound its own time.
pub struct Batcher<Q, A, E> {
    queue: mpsc::Sender<Waiting<Q, A, E>>,
    metrics: QueueMetrics,
}

impl<Q, A, E> Clone for Batcher<Q, A, E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), metrics: self.metrics.clone() }
    }
}

impl<Q, A, E> fmt::Debug for Batcher<Q, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("free", &self.queue.capacity()).finish_non_exhaustive()
    }
}

impl<Q, A, E> Batcher<Q, A, E>
where
    Q: Send + 'static,
    A: Send + 'static,
    E: Clone + Send + 'static,
{
    /// Starts a batcher with its own, unregistered metrics. `send` answers one result for each item, in their order.
    pub fn spawn<F, Fut>(
        name: &'static str,
        limits: BatchLimits,
        cancel: CancellationToken,
        send: F,
    ) -> (Self, JoinHandle<()>)
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, E>> + Send + 'static,
    {
        Self::builder(name, limits).spawn(cancel, send)
    }

    /// A batcher with shared metrics or a bound on the weight of a batch.
    #[must_use]
    pub fn builder(name: &'static str, limits: BatchLimits) -> Builder<Q, A, E> {
        Builder {
            name,
            limits,
            metrics: None,
            weight: None,
            stale_after: None,
            pace: None,
            answers: PhantomData,
        }
    }

    /// Queues an item without waiting. After the batcher has ended the reply is [`CallError::Closed`].
    ///
    /// # Errors
    /// [`Full`] gives the item back.
    pub fn offer(&self, item: Q) -> Result<Reply<A, E>, Full<Q>> {
        let (waiting, reply) = waiting(item);
        // Counted first: the driver might take it, and count it off, before this line goes on.
        self.metrics.depth.inc();
        match self.queue.try_send(waiting) {
            Ok(()) => Ok(reply),
            Err(refused) => {
                self.metrics.depth.dec();
                match refused {
                    mpsc::error::TrySendError::Full(waiting) => {
                        self.metrics.refused.inc();
                        Err(Full(waiting.item))
                    }
                    mpsc::error::TrySendError::Closed(waiting) => {
                        let _ = waiting.answer.send(Err(CallError::Closed));
                        Ok(reply)
                    }
                }
            }
        }
    }

    /// Queues an item and waits for its answer; a full queue is an error at once.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, item: Q) -> Result<A, CallError<E>> {
        match self.offer(item) {
            Ok(reply) => reply.await,
            Err(Full(_)) => Err(CallError::Full),
        }
    }

    /// Waits for a place in the queue and then for the answer: back-pressure instead of an error. Dropping the
    /// future before the item has a place takes it back.
    ///
    /// # Errors
    /// See [`CallError`]; never [`CallError::Full`].
    pub async fn submit(&self, item: Q) -> Result<A, CallError<E>> {
        let since = Instant::now();
        let Ok(place) = self.queue.reserve().await else {
            return Err(CallError::Closed);
        };
        let (mut waiting, reply) = waiting(item);
        waiting.since = since;
        self.metrics.depth.inc();
        place.send(waiting);
        reply.await
    }

    /// Whether the batcher has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

fn waiting<Q, A, E>(item: Q) -> (Waiting<Q, A, E>, Reply<A, E>) {
    let (answer, reply) = oneshot::channel();
    (Waiting { item, since: Instant::now(), answer }, Reply(reply))
}

/// Settings of a [`Batcher`] that most do not need.
pub struct Builder<Q, A, E> {
    name: &'static str,
    limits: BatchLimits,
    metrics: Option<FlowMetrics>,
    weight: Option<Weight<Q>>,
    stale_after: Option<Duration>,
    pace: Option<Duration>,
    answers: PhantomData<fn() -> (A, E)>,
}

impl<Q, A, E> fmt::Debug for Builder<Q, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<Q, A, E> Builder<Q, A, E>
where
    Q: Send + 'static,
    A: Send + 'static,
    E: Clone + Send + 'static,
{
    /// Counts in `metrics`.
    #[must_use]
    pub fn metrics(mut self, metrics: &FlowMetrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// A batch is closed before its weight (bytes, say) exceeds `max`; an item that alone weighs more goes by itself.
    #[must_use]
    pub fn weight(mut self, max: usize, of: fn(&Q) -> usize) -> Self {
        self.weight = Some((max, of));
        self
    }

    /// An item that has waited for longer, or whose caller has gone, is not sent any more: it is answered as if the queue had
    /// been full. For callers with a deadline: what would be answered after it is work for nobody, and a queue that is as long
    /// as the deadline would make all of it such.
    #[must_use]
    pub fn stale_after(mut self, wait: Duration) -> Self {
        self.stale_after = Some(wait);
        self
    }

    /// Batches keep a distance that grows with the time that they take, up to `longest`; what comes meanwhile goes together. For
    /// calls whose cost is the call and not the item: many callers with a batch of one each would keep a peer busy with calls.
    /// While batches are answered in no time nothing waits, and one that left something behind is followed at once.
    #[must_use]
    pub fn paced(mut self, longest: Duration) -> Self {
        self.pace = Some(longest);
        self
    }

    /// Starts the batcher; see [`Batcher::spawn`].
    pub fn spawn<F, Fut>(self, cancel: CancellationToken, send: F) -> (Batcher<Q, A, E>, JoinHandle<()>)
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, E>> + Send + 'static,
    {
        let (tx, rx) = mpsc::channel(self.limits.queue_items.max(1));
        let metrics = self.metrics.unwrap_or_default().queue(self.name);
        let manner = Manner { weight: self.weight, stale_after: self.stale_after, pace: self.pace };
        let driver = Driver::new(self.name, self.limits, manner, rx, metrics.clone(), send);
        (Batcher { queue: tx, metrics }, tokio::spawn(driver.run(cancel)))
    }
}
