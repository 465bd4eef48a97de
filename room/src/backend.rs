//! The tokio side of the room: asks the other services on behalf of the threads.
//!
//! Each kind of ask has its own stream with its own bound on what is under way, so that a stall of one service holds up
//! only what needs it. Streams pull: while one is at its bound its queue fills, then the thread says so to the device
//! ("busy", "send again") or keeps it where it is (acks and ends wait in their bindings).

mod binds;
mod broadcasts;
mod congestion;
mod ends;
mod events;
mod inboxes;
mod pending;
mod renew;
mod services;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cluster::{MessageIds, NodeInfo, Picture};
use flow::Backoff;
use futures::{Stream, stream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use broadcasts::{Broadcasts, NoticeError};
pub(crate) use broadcasts::{broadcast_recall, filter};
pub use pending::PendingBinds;
pub use services::{Peers, Services};

use crate::{
    event_loop::{AskStreams, Thread},
    metrics::RoomMetrics,
    token::Verifier,
};
use broadcasts::Looks;
use congestion::Congestion;
use events::Events;
use renew::Late;

/// Answers that reach a thread as one order.
const ANSWERS: usize = 256;

/// Bounds of what is under way.
#[derive(Debug, Clone)]
pub struct BackendLimits {
    /// Binds of one thread.
    pub binds: usize,
    /// Loads of one thread.
    pub loads: usize,
    /// Acks of one thread.
    pub acks: usize,
    /// Ends of one thread.
    pub ends: usize,
    /// Upstream items of one thread.
    pub ups: usize,
    /// State events of the room that wait for the coordinator.
    pub events: usize,
    /// Messages of one page of an inbox.
    pub page_messages: u32,
    /// Bytes of one page of an inbox or of a broadcast log.
    pub page_bytes: u32,
    /// Bytes of one app's newest broadcasts that the room keeps for all its threads; of up to 16 apps.
    pub cache_bytes: usize,
    /// What may not be lost is tried for so long.
    pub patience: Duration,
    /// How often the heads of the broadcast logs are asked for.
    pub heads_interval: Duration,
    /// Sessions a second that are looked at when registers have to be told again.
    pub restores_per_second: u32,
    /// Inboxes a second that are looked into after the room had been taken for gone.
    pub looks_per_second: u32,
    /// A hole in a log is waited on for so long before it is read: broadcasts that overtake each other are common.
    pub hole_wait: Duration,
}

impl Default for BackendLimits {
    fn default() -> Self {
        Self {
            // Each takes 3 to 4 KB while it is under way, which the allocator keeps: with 2,048 a ramp of 4,000 a second left
            // 150 bytes a connection behind. These are enough for 10,000 a second at 25 ms each.
            binds: 256,
            loads: 1_024,
            acks: 4_096,
            ends: 1_024,
            ups: 1_024,
            events: 16_384,
            page_messages: 256,
            page_bytes: 64 * 1024,
            cache_bytes: 4 << 20,
            patience: Duration::from_secs(30),
            heads_interval: Duration::from_secs(10),
            restores_per_second: 500_000,
            looks_per_second: 5_000,
            hole_wait: Duration::from_millis(30),
        }
    }
}

/// Which room this is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Number of the node.
    pub node: u32,
    /// Its entry in the cluster.
    pub info: watch::Receiver<NodeInfo>,
}

impl Identity {
    /// The present life of the node: a later one begins when it registers again.
    pub fn life(&self) -> u64 {
        self.info.borrow().life()
    }
}

/// What all tasks of the tokio side share.
pub struct Backend<S> {
    /// The other services.
    pub services: S,
    /// This room.
    pub identity: Identity,
    /// Bounds.
    pub limits: BackendLimits,
    /// Token keys.
    pub verifier: Verifier,
    /// Binds under way.
    pub pending: PendingBinds,
    /// The apps' logs.
    pub broadcasts: Broadcasts,
    /// Counters.
    pub metrics: RoomMetrics,
    pub(crate) events: Events,
    pub(crate) congestion: Congestion,
    pub(crate) late: Late,
    pub(crate) ids: Arc<MessageIds>,
    pub(crate) cancel: CancellationToken,
    /// Acks, ends and events that are being handed over.
    under_way: Arc<AtomicUsize>,
    /// Times that the registers had to be told again.
    rounds: AtomicU64,
}

impl<S> Backend<S> {
    /// The registers have to be told again.
    pub(crate) fn next_round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the registers have had to be told again.
    pub(crate) fn round(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }

    /// Whether something is under way that a drain waits for.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0 || self.events.waiting() > 0
    }

    /// Counts something that a drain waits for, until the guard is dropped.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Back-off of what may not be lost.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::default()
    }
}

/// Something that a drain waits for.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Everything that runs on the tokio side, as futures that their owner spawns and names.
pub type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The work of the tokio side.
pub struct Works {
    /// Run until the room is cancelled.
    pub keepers: Vec<Work>,
    /// Each ends when its thread has ended and everything that the thread asked for is done.
    pub streams: Vec<Work>,
}

/// Makes the tokio side of a room.
pub fn build<S: Services>(
    services: S,
    identity: Identity,
    limits: BackendLimits,
    threads: Vec<(Thread, AskStreams)>,
    metrics: RoomMetrics,
    pictures: watch::Receiver<Arc<Picture>>,
    cancel: CancellationToken,
) -> (Arc<Backend<S>>, Works) {
    let all: Vec<Thread> = threads.iter().map(|(thread, _)| thread.clone()).collect();
    let (events, event_stream) = Events::new(limits.events, metrics.clone());
    let (late, late_tasks) = Late::new(metrics.clone());
    let looks = Looks::new(pictures.clone(), cluster::NodeId(identity.node));
    let (broadcasts, log_keeper) =
        Broadcasts::new(services.clone(), all.clone(), &limits, looks, cancel.clone());
    let backend = Arc::new(Backend {
        ids: Arc::new(MessageIds::new(cluster::NodeId(identity.node))),
        services,
        identity,
        limits,
        verifier: Verifier::default(),
        pending: PendingBinds::default(),
        broadcasts,
        metrics,
        events,
        congestion: Congestion::default(),
        late,
        cancel,
        under_way: Arc::default(),
        rounds: AtomicU64::new(0),
    });
    let keepers: Vec<Work> = vec![
        Box::pin(log_keeper.run()),
        Box::pin(events::run(Arc::clone(&backend), event_stream)),
        Box::pin(renew::run(Arc::clone(&backend), all, pictures.clone())),
        Box::pin(renew::run_late(Arc::clone(&backend), late_tasks, pictures)),
    ];
    let mut streams: Vec<Work> = Vec::new();
    for (thread, asks) in threads {
        let backend = || Arc::clone(&backend);
        streams.push(Box::pin(binds::run(backend(), thread.clone(), asks.binds)));
        streams.push(Box::pin(inboxes::run_loads(backend(), thread.clone(), asks.loads)));
        streams.push(Box::pin(inboxes::run_acks(backend(), asks.acks)));
        streams.push(Box::pin(inboxes::run_keeps(backend(), thread.clone(), asks.keeps)));
        streams.push(Box::pin(ends::run(backend(), asks.ends)));
        streams.push(Box::pin(upstream::run(backend(), thread.clone(), asks.ups)));
        streams.push(Box::pin(broadcasts::run_pages(backend(), thread, asks.pages)));
    }
    (backend, Works { keepers, streams })
}

/// The items of a queue of batches, one by one; it ends with the queue.
fn items<T>(mut batches: mpsc::Receiver<Vec<T>>) -> impl Stream<Item = T> {
    use futures::StreamExt as _;
    stream::poll_fn(move |cx| batches.poll_recv(cx)).flat_map(stream::iter)
}
