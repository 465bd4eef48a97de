//! All lanes, made as they are needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Answer, Job, Lane, Message, Tools, worker::Worker};
use crate::{
    event::{Event, LaneKey},
    spill::{Backlog, SpillError},
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
    workers: Arc<[mpsc::Sender<Message>]>,
    memory: Arc<Semaphore>,
}

/// The lane or all lanes together have no memory left, or the coordinator is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shed;

impl Lanes {
    /// No lanes yet. `tasks` are the workers, which end after `closing`.
    pub(crate) fn new(tools: Arc<Tools>, tasks: TaskTracker, closing: CancellationToken) -> Lanes {
        let memory = Arc::new(Semaphore::new(tools.config.memory_bytes));
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
        entrance.workers[worker].try_send(Message::Job(job)).map_err(|_| Shed)?;
        Ok(answered)
    }

    /// Tells lanes that dead letters were put back into their queues.
    pub(crate) fn replayed(&self, backlogs: &[Backlog]) {
        for backlog in backlogs {
            let entrance = self.entrance(backlog.lane);
            entrance.lane.add_spilled(backlog.bytes);
            for worker in entrance.workers.iter() {
                // A full inbox has the worker look at its queue anyway.
                let _ = worker.try_send(Message::LookAgain);
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
            let (worker, inbox) = mpsc::channel(INBOX);
            shared.tasks.spawn(Worker::new(lane.clone(), part, inbox, shared.closing.clone()).run());
            worker
        };
        let workers = (0..parts(shared.tools.config.workers_per_app)).map(worker).collect();
        let memory = Arc::new(Semaphore::new(shared.tools.config.app_memory_bytes));
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
