//! All lanes, made as they are needed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Answer, Job, Lane, Message, Tools, worker::Worker};
use crate::{
    config::Config,
    event::{Event, LaneKey},
    spill::{Backlog, RowId, SpillError},
};

/// Events that may wait for one worker in memory, besides the bound in bytes: at 5 ms a request, a second's worth.
const INBOX: usize = 256;

/// All lanes. Clones share them.
#[derive(Clone)]
pub(crate) struct Lanes {
    shared: Arc<Shared>,
}

struct Shared {
    tools: Arc<Tools>,
    lanes: Mutex<HashMap<LaneKey, Entrance>>,
    memory: Arc<Semaphore>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// The way into a lane.
#[derive(Clone)]
struct Entrance {
    lane: Arc<Lane>,
    workers: Arc<[WorkerEnd]>,
    memory: Arc<Semaphore>,
}

/// The way to a worker.
struct WorkerEnd {
    inbox: mpsc::Sender<Message>,
    /// Something was put into the worker's queue by another.
    look_again: Arc<AtomicBool>,
}

/// The lane or all lanes together have no memory left, or the coordinator is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shed;

impl Lanes {
    /// No lanes yet. `tasks` are the workers, which end after `closing`.
    pub(crate) fn new(tools: Arc<Tools>, tasks: TaskTracker, closing: CancellationToken) -> Lanes {
        let memory = Arc::new(Semaphore::new(tools.config.load().memory_bytes));
        Lanes { shared: Arc::new(Shared { tools, lanes: Mutex::default(), memory, closing, tasks }) }
    }

    /// Takes up what an earlier life left in the queue.
    pub(crate) async fn resume(&self) -> Result<(), SpillError> {
        for backlog in self.shared.tools.spill.backlog().await? {
            let Backlog { lane: LaneKey { app, kind }, events, bytes } = backlog;
            tracing::info!(app, kind = kind.as_str(), events, "events wait from before");
            self.entrance(backlog.lane).lane.add_spilled(bytes);
        }
        Ok(())
    }

    /// Takes another configuration, as far as it can be taken by lanes that are there.
    pub(crate) fn apply(&self, config: Config) {
        let webhook = config.webhook.clone();
        self.shared.tools.config.store(Arc::new(config));
        for entrance in self.lock().values() {
            entrance.lane.breaker.set(webhook.breaker_failures, webhook.backoff());
        }
    }

    /// How the lanes are configured.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.shared.tools.config.load_full()
    }

    /// Hands an event in, without waiting. The answer comes when it is taken.
    pub(crate) fn offer(&self, event: Event) -> Result<oneshot::Receiver<Answer>, Shed> {
        if self.shared.closing.is_cancelled() {
            return Err(Shed);
        }
        let entrance = self.entrance(event.lane());
        // An event larger than any bound would be shed for ever; frames are bounded far below.
        let bytes = u32::try_from(event.bytes()).map_err(|_| Shed)?;
        let of_lane = entrance.memory.clone().try_acquire_many_owned(bytes).map_err(|_| Shed)?;
        let of_all = self.shared.memory.clone().try_acquire_many_owned(bytes).map_err(|_| Shed)?;
        let worker = usize::from(event.bucket()) % entrance.workers.len();
        let (answer, answered) = oneshot::channel();
        let job = Job { event, since: Instant::now(), answer, _memory: [of_lane, of_all] };
        entrance.workers[worker].inbox.try_send(Message::Job(job)).map_err(|_| Shed)?;
        Ok(answered)
    }

    /// Puts dead letters of an app back into the queue, all up to and including `up_to`, and has the workers look.
    /// Answers how many. Once begun it is done to the end, also when whoever asked has gone.
    pub(crate) async fn replay(&self, app: u32, up_to: RowId) -> Result<u64, SpillError> {
        let lanes = self.clone();
        let done = self.shared.tasks.spawn(async move {
            let replayed = lanes.shared.tools.spill.replay(app, up_to, cluster::now_ms()).await?;
            lanes.replayed(&replayed);
            Ok(replayed.iter().map(|backlog| backlog.events).sum())
        });
        done.await.unwrap_or_else(|error| Err(SpillError(error.to_string())))
    }

    pub(super) fn replayed(&self, backlogs: &[Backlog]) {
        for backlog in backlogs {
            let entrance = self.entrance(backlog.lane);
            entrance.lane.add_spilled(backlog.bytes);
            for worker in entrance.workers.iter() {
                worker.look_again.store(true, Ordering::Release);
                // A full inbox keeps the worker awake, and it looks between any two events.
                let _ = worker.inbox.try_send(Message::LookAgain);
            }
        }
    }

    fn entrance(&self, key: LaneKey) -> Entrance {
        self.lock().entry(key).or_insert_with(|| self.open(key)).clone()
    }

    fn open(&self, key: LaneKey) -> Entrance {
        let shared = &self.shared;
        let lane = Arc::new(Lane::new(key, shared.tools.clone()));
        shared.tools.metrics.lanes.inc();
        let worker = |part| {
            let (inbox, jobs) = mpsc::channel(INBOX);
            let look_again = Arc::new(AtomicBool::new(false));
            let worker = Worker::new(lane.clone(), part, jobs, look_again.clone(), shared.closing.clone());
            shared.tasks.spawn(worker.run());
            WorkerEnd { inbox, look_again }
        };
        let workers = (0..parts(shared.tools.config.load().workers_per_app)).map(worker).collect();
        let memory = Arc::new(Semaphore::new(shared.tools.config.load().app_memory_bytes));
        Entrance { lane, workers, memory }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaneKey, Entrance>> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of workers as the queue counts them.
pub(crate) fn parts(workers_per_app: usize) -> u16 {
    workers_per_app.clamp(1, 1024) as u16
}
