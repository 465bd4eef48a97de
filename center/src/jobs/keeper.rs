//! Knows which broadcasts have not ended, and runs those that are this center's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use proto::internal::{Job, JobState};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    owners, ring,
    run::{Run, Tools},
};

/// The archive is asked so often what there is to do. A change that any center made, and a job whose center died, are noticed
/// within this time.
const POLL: Duration = Duration::from_millis(500);
/// An archive that did not answer for so long is worth a line in the log.
const UNHEARD: u32 = 20;

/// What is known of the jobs of the cluster; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Known {
    jobs: Arc<Mutex<Jobs>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Jobs {
    /// By the last poll.
    active: usize,
    /// Accepted here since it was begun.
    fresh: usize,
}

impl Known {
    /// Jobs that have not ended, in the whole cluster, as far as is known here.
    pub(crate) fn active(&self) -> usize {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.active + jobs.fresh
    }

    /// A job was made here, or changed: it is looked at without delay.
    pub(crate) fn note(&self, new: bool) {
        if new {
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).fresh += 1;
        }
        self.wake.notify_one();
    }

    fn begin(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).fresh = 0;
    }

    fn end(&self, active: usize) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).active = active;
    }
}

/// The jobs that run here.
pub(crate) struct Keeper {
    tools: Tools,
    known: Known,
    /// At most so many run here at once.
    most: usize,
    running: HashMap<u64, Running>,
    tasks: TaskTracker,
}

struct Running {
    news: watch::Sender<Job>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    pub(crate) fn new(tools: Tools, known: Known, most: usize) -> Keeper {
        Keeper { tools, known, most, running: HashMap::new(), tasks: TaskTracker::new() }
    }

    /// Polls and runs until `cancel`; then waits for its tasks.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut picture = self.tools.reach.cluster.picture();
        let mut failures = 0u32;
        let rounds = async {
            loop {
                let next = Instant::now() + POLL;
                failures = if self.round().await { 0 } else { failures.saturating_add(1) };
                if failures == UNHEARD {
                    tracing::warn!(
                        "the savers have not said for a while which broadcasts are to be released"
                    );
                }
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.known.wake.notified() => {}
                    // A picture that does not change any more is no reason to hurry.
                    Ok(()) = picture.changed() => {}
                }
            }
        };
        cancel.run_until_cancelled(rounds).await;
        self.running.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Asks once; whether all savers answered.
    async fn round(&mut self) -> bool {
        self.known.begin();
        let (jobs, missed) = match self.tools.reach.savers.active_jobs().await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(%error, "the broadcasts under way are not known just now");
                // What runs goes on: each of its steps is compared with the archive.
                return false;
            }
        };
        self.known.end(jobs.len());
        let (picture, me) = (self.tools.reach.picture(), self.tools.reach.me());
        let (mut mine, others): (HashMap<_, _>, Vec<_>) = {
            let (mine, others): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| owners::runner(&picture, me, job.id) == me);
            (mine.into_iter().map(|job| (job.id, job)).collect(), others)
        };
        self.running.retain(|id, running| {
            let job = mine.remove(id);
            if let Some(job) = job {
                running.news.send_if_modified(|known| {
                    let changed = *known != job;
                    *known = job;
                    changed
                });
                return !running.task.is_finished();
            }
            // One that a silent saver keeps may be alive.
            let elsewhere = others.iter().any(|job| job.id == *id);
            !running.task.is_finished() && !elsewhere && missed > 0
        });
        self.begin(mine.into_values().collect());
        self.tools.reach.metrics.jobs_running.set(self.running.len() as i64);
        missed == 0
    }

    /// Takes jobs up, urgent and older ones first.
    fn begin(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by_key(|job| (!job.urgent, job.id));
        for job in jobs {
            if self.running.len() >= self.most {
                self.tools.reach.metrics.jobs_put_off.inc();
                break;
            }
            // A job that begins here in the middle was another center's.
            if job.state() == JobState::Running && job.released > 0 {
                self.tools.reach.metrics.jobs_taken_over.inc();
            }
            if ring::has_ended(&job) {
                continue;
            }
            let id = job.id;
            let (news, heard) = watch::channel(job);
            let run = Run::new(self.tools.clone(), heard);
            let task = self.tasks.spawn(run.run()).abort_handle();
            self.running.insert(id, Running { news, task });
        }
    }
}
