//! The one task behind a batcher.

use std::{
    collections::VecDeque, future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, BatchLimits, CallError, Waiting,
    pace::{ENOUGH, Pace},
};
use crate::metrics::QueueMetrics;

/// The most a batch may weigh, and what an item weighs.
pub(super) type Weight<Q> = (usize, fn(&Q) -> usize);

/// What most batchers do without.
pub(super) struct Manner<Q> {
    pub(super) weight: Option<Weight<Q>>,
    pub(super) stale_after: Option<Duration>,
    pub(super) pace: Option<Duration>,
}

pub(super) struct Driver<Q, A, E, F> {
    name: &'static str,
    limits: BatchLimits,
    pace: Option<Pace>,
    queue: Queue<Q, A, E>,
    metrics: QueueMetrics,
    send: Arc<F>,
}

struct Queue<Q, A, E> {
    rx: mpsc::Receiver<Waiting<Q, A, E>>,
    /// Taken from the channel, and first in the next batch: what was too heavy for the one before, or gathers until one is due.
    held: VecDeque<Waiting<Q, A, E>>,
    batch_items: usize,
    weight: Option<Weight<Q>>,
    stale_after: Option<Duration>,
    metrics: QueueMetrics,
}

impl<Q, A, E, F, Fut> Driver<Q, A, E, F>
where
    Q: Send + 'static,
    A: Send + 'static,
    E: Clone + Send + 'static,
    F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<A>, E>> + Send + 'static,
{
    pub(super) fn new(
        name: &'static str,
        limits: BatchLimits,
        Manner { weight, stale_after, pace }: Manner<Q>,
        rx: mpsc::Receiver<Waiting<Q, A, E>>,
        metrics: QueueMetrics,
        send: F,
    ) -> Self {
        let batch_items = limits.batch_items.max(1);
        let queue =
            Queue { rx, held: VecDeque::new(), batch_items, weight, stale_after, metrics: metrics.clone() };
        Self { name, limits, pace: pace.map(Pace::new), queue, metrics, send: Arc::new(send) }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let most = self.limits.in_flight.max(1);
        let mut in_flight = FuturesUnordered::new();
        let cancelled = cancel.cancelled();
        tokio::pin!(cancelled);
        loop {
            tokio::select! {
                // Answers before new work: they free places.
                biased;
                () = &mut cancelled => break,
                Some(begin) = in_flight.next(), if !in_flight.is_empty() => {
                    if let Some(pace) = &mut self.pace {
                        pace.answered(begin, Instant::now());
                    }
                }
                batch = self.queue.next_batch(self.pace.as_ref()), if in_flight.len() < most => match batch {
                    Some(batch) => {
                        if let Some(pace) = &mut self.pace {
                            pace.sent(Instant::now(), self.queue.is_behind());
                        }
                        in_flight.push(self.dispatch(batch));
                    }
                    None => break,
                },
            }
        }
        self.close().await;
        while in_flight.next().await.is_some() {}
    }

    /// Sends one batch and hands its answers out; answers when it was sent.
    fn dispatch(
        &self,
        batch: Vec<Waiting<Q, A, E>>,
    ) -> impl Future<Output = Instant> + Send + use<Q, A, E, F, Fut> {
        let begin = Instant::now();
        let count = batch.len();
        self.metrics.depth.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
        self.metrics.batch_items.observe(count as f64);
        if let Some(first) = batch.first() {
            self.metrics.wait.observe(first.since.elapsed().as_secs_f64());
        }
        let mut items = Vec::with_capacity(count);
        let mut answers = Vec::with_capacity(count);
        for waiting in batch {
            items.push(waiting.item);
            answers.push(waiting.answer);
        }
        let (name, send) = (self.name, Arc::clone(&self.send));
        async move {
            // A panic in one batch must not take the queue, and every later item, with it.
            match AssertUnwindSafe(async { send(items).await }).catch_unwind().await {
                Ok(Ok(results)) => settle(name, answers, results),
                Ok(Err(error)) => refuse(answers, &CallError::Failed(error)),
                Err(_) => {
                    tracing::error!(queue = name, "sending a batch panicked");
                    refuse(answers, &CallError::Lost);
                }
            }
            begin
        }
    }

    /// Refuses what waits and whatever is still on its way into the channel.
    async fn close(&mut self) {
        self.queue.rx.close();
        while let Some(waiting) = self.queue.next().await {
            self.metrics.depth.dec();
            let _ = waiting.answer.send(Err(CallError::Closed));
        }
    }
}

impl<Q, A, E> Queue<Q, A, E> {
    /// Waits for an item, and until a batch is due, and takes what has gathered; `None` when no handle is left. It may be
    /// dropped while it waits without loss: what has been taken by then is held.
    async fn next_batch(&mut self, pace: Option<&Pace>) -> Option<Vec<Waiting<Q, A, E>>> {
        let first = loop {
            let next = self.next().await?;
            match pace.and_then(|pace| pace.due(Instant::now())) {
                Some(due) if self.held.len() + 1 < self.enough() => {
                    self.held.push_front(next);
                    self.gather(due).await;
                }
                _ => {
                    if let Some(next) = self.fresh(next) {
                        break next;
                    }
                }
            }
        };
        let gathered = (self.held.len() + self.rx.len()).saturating_add(1).min(self.batch_items);
        let mut batch = Vec::with_capacity(gathered);
        let mut load = self.weigh(&first);
        batch.push(first);
        while batch.len() < self.batch_items {
            let Some(next) = self.held.pop_front().or_else(|| self.rx.try_recv().ok()) else { break };
            let Some(next) = self.fresh(next) else { continue };
            load = load.saturating_add(self.weigh(&next));
            if self.weight.is_some_and(|(max, _)| load > max) {
                self.held.push_front(next);
                break;
            }
            batch.push(next);
        }
        Some(batch)
    }

    /// Takes what comes until a batch is due or there is enough for one.
    async fn gather(&mut self, due: Instant) {
        let mut due = pin!(sleep_until(due));
        while self.held.len() < self.enough() {
            tokio::select! {
                biased;
                () = &mut due => return,
                next = self.rx.recv() => match next {
                    Some(next) => self.held.push_back(next),
                    // No more will come.
                    None => return due.await,
                },
            }
        }
    }

    fn enough(&self) -> usize {
        ENOUGH.min(self.batch_items)
    }

    /// The next item; `None` when no handle is left.
    async fn next(&mut self) -> Option<Waiting<Q, A, E>> {
        match self.held.pop_front() {
            Some(held) => Some(held),
            None => self.rx.recv().await,
        }
    }

    /// Whether a batch was taken that left something behind.
    fn is_behind(&self) -> bool {
        !self.held.is_empty() || !self.rx.is_empty()
    }

    /// The item, if it is worth sending; else its caller is answered.
    fn fresh(&self, waiting: Waiting<Q, A, E>) -> Option<Waiting<Q, A, E>> {
        let stale =
            self.stale_after.is_some_and(|most| waiting.since.elapsed() > most || waiting.answer.is_closed());
        if !stale {
            return Some(waiting);
        }
        self.metrics.depth.dec();
        self.metrics.refused.inc();
        let _ = waiting.answer.send(Err(CallError::Full));
        None
    }

    fn weigh(&self, waiting: &Waiting<Q, A, E>) -> usize {
        self.weight.map_or(0, |(_, of)| of(&waiting.item))
    }
}

fn settle<A, E>(name: &'static str, answers: Vec<oneshot::Sender<Answer<A, E>>>, results: Vec<A>) {
    if results.len() != answers.len() {
        tracing::error!(
            queue = name,
            items = answers.len(),
            results = results.len(),
            "answers do not match the batch"
        );
    }
    let mut results = results.into_iter();
    for answer in answers {
        // A caller that has gone away is no concern of the others.
        let _ = answer.send(results.next().ok_or(CallError::Lost));
    }
}

fn refuse<A, E: Clone>(answers: Vec<oneshot::Sender<Answer<A, E>>>, error: &CallError<E>) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}
