//! What the line to one node is made of: its transport, its batchers, its time-outs.

use std::{future::Future, sync::Arc, time::Duration};

use cluster::{NodeId, Role, Transport};
use flow::{BatchLimits, Batcher, CallError};
use prometheus_client::metrics::histogram::Histogram;
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::{Limits, PeerError, PeerMetrics};

/// A node that leaves in order has answered what it was asked; one that died or hangs does not answer any more. Whoever waits
/// for it goes on to its heir after this.
const LAST_WORD: Duration = Duration::from_millis(200);

/// The longest that a paced call is held back for others to go with it: four calls a second to each node are few whatever the
/// number of nodes, and a device that comes to an overloaded cluster does not notice a quarter of a second.
const PACE: Duration = Duration::from_millis(250);

/// All that goes to one node: one connection, and one batcher for each kind of call.
pub(crate) trait Line: Send + Sync + 'static {
    /// What the node is.
    const ROLE: Role;

    /// Whether the node has said that any of its role may be asked for any key.
    fn serves_any(&self) -> bool {
        false
    }
    /// Makes the batchers of a new line.
    fn open(wire: &mut Wire) -> Self;
}

/// What a [`Line`] is opened with.
pub(crate) struct Wire {
    pub(crate) limits: Limits,
    role: Role,
    node: NodeId,
    transport: Transport,
    metrics: PeerMetrics,
    cancel: CancellationToken,
    gone: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// How batches go apart from their bounds.
#[derive(Clone, Copy)]
struct Manner {
    /// What has waited for longer is not sent.
    patience: Option<Duration>,
    /// The longest distance between batches of a peer that takes its time.
    pace: Option<Duration>,
}

/// How a batch is bounded apart from its number of items: the most it may weigh, and what an item weighs.
pub(crate) type Weight<Q> = (usize, fn(&Q) -> usize);

impl Wire {
    pub(crate) fn new(
        role: Role,
        node: NodeId,
        transport: Transport,
        limits: Limits,
        metrics: PeerMetrics,
        cancel: CancellationToken,
    ) -> Self {
        let gone = CancellationToken::new();
        Self { limits, role, node, transport, metrics, cancel, gone, tasks: Vec::new() }
    }

    /// The one connection to the node; clones share it.
    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// A batcher for one kind of call. `send` is one RPC; it is given up after the time-out of the limits.
    pub(crate) fn batcher<Q, A, F, Fut>(
        &mut self,
        name: &'static str,
        limits: BatchLimits,
        weight: Option<Weight<Q>>,
        send: F,
    ) -> Batcher<Q, A, PeerError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, Status>> + Send + 'static,
    {
        self.batcher_within(name, limits, None, weight, send)
    }

    /// The same for items of which a process has few at a time and a node gets many from all: those that come while an answer
    /// is waited for share the next call. What has waited for half of a call's time is refused, since whoever asked would hardly
    /// learn what came of it.
    pub(crate) fn paced<Q, A, F, Fut>(
        &mut self,
        name: &'static str,
        limits: BatchLimits,
        weight: Option<Weight<Q>>,
        send: F,
    ) -> Batcher<Q, A, PeerError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, Status>> + Send + 'static,
    {
        let manner = Manner { patience: Some(self.limits.deadline / 2), pace: Some(PACE) };
        self.spawn(name, limits, manner, weight, send)
    }

    /// The same for items that are not to be sent when they have waited for longer than `patience`.
    pub(crate) fn batcher_within<Q, A, F, Fut>(
        &mut self,
        name: &'static str,
        limits: BatchLimits,
        patience: Option<Duration>,
        weight: Option<Weight<Q>>,
        send: F,
    ) -> Batcher<Q, A, PeerError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, Status>> + Send + 'static,
    {
        self.spawn(name, limits, Manner { patience, pace: None }, weight, send)
    }

    fn spawn<Q, A, F, Fut>(
        &mut self,
        name: &'static str,
        limits: BatchLimits,
        manner: Manner,
        weight: Option<Weight<Q>>,
        send: F,
    ) -> Batcher<Q, A, PeerError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<A>, Status>> + Send + 'static,
    {
        let request = self.request(name);
        let mut builder = Batcher::builder(name, limits).metrics(self.metrics.flow());
        if let Some((max, of)) = weight {
            builder = builder.weight(max, of);
        }
        if let Some(patience) = manner.patience {
            builder = builder.stale_after(patience);
        }
        if let Some(pace) = manner.pace {
            builder = builder.paced(pace);
        }
        let (batcher, task) = builder.spawn(self.cancel.clone(), move |items| {
            let (request, answer) = (request.clone(), send(items));
            async move { request.run(answer).await }
        });
        self.tasks.push(task);
        batcher
    }

    /// A queue for a kind of call of which each request takes one item, `in_flight` at a time.
    pub(crate) fn singles<Q, A, F, Fut>(
        &mut self,
        name: &'static str,
        in_flight: usize,
        send: F,
    ) -> Batcher<Q, A, PeerError>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let limits = BatchLimits { batch_items: 1, in_flight, ..self.limits.batch() };
        self.batcher(name, limits, None, move |items| {
            let answers = items.into_iter().map(&send).collect::<Vec<_>>();
            async move {
                let mut results = Vec::with_capacity(1);
                for answer in answers {
                    results.push(answer.await?.into_inner());
                }
                Ok(results)
            }
        })
    }

    /// Turns for calls whose items are together already. As many are under way as a batcher has batches; others wait, and their
    /// number is their callers' to bound.
    pub(crate) fn parcels(&self, name: &'static str) -> Parcels {
        Parcels {
            request: self.request(name),
            turns: Arc::new(Semaphore::new(self.limits.in_flight)),
            items: self.metrics.flow().batch_items(name),
        }
    }

    /// Places for the kinds of call that are rare and need no queue.
    pub(crate) fn control(&self) -> Control {
        Control {
            request: self.request("control"),
            places: Arc::new(Semaphore::new(self.limits.control_calls)),
        }
    }

    /// To be cancelled when the node has left the cluster: what is under way to it then fails.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    pub(crate) fn into_tasks(self) -> Vec<JoinHandle<()>> {
        self.tasks
    }

    fn request(&self, name: &'static str) -> Request {
        Request {
            role: self.role,
            node: self.node,
            timeout: self.limits.rpc_timeout,
            gone: self.gone.clone(),
            seconds: self.metrics.rpc(name),
        }
    }
}

/// Calls that are made one by one: so many at a time, more are refused.
pub(crate) struct Control {
    request: Request,
    places: Arc<Semaphore>,
}

impl Control {
    pub(crate) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError<PeerError>> {
        let Ok(_place) = self.places.try_acquire() else { return Err(CallError::Full) };
        let answer = async { answer.await.map(Response::into_inner) };
        self.request.run(answer).await.map_err(CallError::Failed)
    }
}

/// Calls that carry many items of one caller.
pub(crate) struct Parcels {
    request: Request,
    turns: Arc<Semaphore>,
    items: Histogram,
}

impl Parcels {
    /// Makes a call with so many items when it is its turn.
    pub(crate) async fn call<T>(
        &self,
        items: usize,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, CallError<PeerError>> {
        // It is never closed.
        let Ok(_turn) = self.turns.acquire().await else { return Err(CallError::Closed) };
        self.items.observe(items as f64);
        self.request.run(answer).await.map_err(CallError::Failed)
    }
}

/// One RPC to a node: its time-out, its measure, and what its failure means.
#[derive(Clone)]
struct Request {
    role: Role,
    node: NodeId,
    timeout: Duration,
    gone: CancellationToken,
    seconds: Histogram,
}

impl Request {
    async fn run<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, PeerError> {
        let start = Instant::now();
        let result = tokio::select! {
            biased;
            result = tokio::time::timeout(self.timeout, answer) => result.map_err(|_| false),
            () = self.given_up() => Err(true),
        };
        self.seconds.observe(start.elapsed().as_secs_f64());
        let detail = match result {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(status)) => return Err(PeerError::from_status(self.role, self.node, &status)),
            Err(true) => "it has left the cluster".into(),
            Err(false) => format!("no answer in {:?}", self.timeout).into(),
        };
        Err(PeerError::Unavailable { role: self.role, node: Some(self.node), detail })
    }

    async fn given_up(&self) {
        self.gone.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    }
}
