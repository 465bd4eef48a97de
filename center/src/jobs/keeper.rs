//! Knows which broadcasts have not ended, and runs those that are this center's.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use hashbrown::HashMap;
use proto::internal::{Job, JobState};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    owners, ring,
    run::{Run, Tools},
};

/// While something runs here, or not all was heard, the archive is asked so often what there is to do: a change of it is noticed
/// within this time, whoever made it.
const POLL: Duration = Duration::from_millis(500);
/// Otherwise so often. Whoever makes or changes a job tells the center that runs it, and what a center that died ran is taken up
/// when the picture says that it has: this is for what was not told.
const REST: Duration = Duration::from_secs(5);
/// An archive that did not answer for so long is worth a line in the log.
const UNHEARD: u32 = 20;
/// Jobs at most whose centers are told of a change in one go; of further ones these find out by themselves.
const TOLD_MAX: usize = 1_024;

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
    /// Made or changed here, and not told yet to those who run them.
    changed: BTreeSet<u64>,
}

impl Known {
    /// Jobs that have not ended, in the whole cluster, as far as is known here.
    pub(crate) fn active(&self) -> usize {
        let jobs = self.lock();
        jobs.active + jobs.fresh
    }

    /// A job was made here, or changed: whoever runs it looks at it without delay.
    pub(crate) fn note(&self, id: u64, new: bool) {
        {
            let mut jobs = self.lock();
            jobs.fresh += usize::from(new);
            if jobs.changed.len() < TOLD_MAX {
                jobs.changed.insert(id);
            }
        }
        self.look();
    }

    /// There may be something to do here.
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }

    /// A poll begins; what has changed here since the last one.
    fn begin(&self) -> BTreeSet<u64> {
        let mut jobs = self.lock();
        jobs.fresh = 0;
        std::mem::take(&mut jobs.changed)
    }

    fn end(&self, active: usize) {
        self.lock().active = active;
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs that run here.
pub(crate) struct Keeper {
    tools: Tools,
    known: Known,
    /// At most so many run here at once.
    most: usize,
    running: HashMap<u64, Running>,
    /// More were to be taken up than may run here.
    put_off: bool,
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
        Keeper { tools, known, most, running: HashMap::new(), put_off: false, tasks: TaskTracker::new() }
    }

    /// Polls and runs until `cancel`; then waits for its tasks.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut picture = self.tools.reach.cluster.picture();
        let mut failures = 0u32;
        let rounds = async {
            loop {
                let begun = Instant::now();
                failures = if self.round().await { 0 } else { failures.saturating_add(1) };
                if failures == UNHEARD {
                    tracing::warn!(
                        "the savers have not said for a while which broadcasts are to be released"
                    );
                }
                let rests = failures == 0 && self.running.is_empty() && !self.put_off;
                tokio::select! {
                    () = sleep_until(begun + if rests { REST } else { POLL }) => {}
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
        let changed = self.known.begin();
        let (told, ()) = futures::join!(self.tools.reach.savers.active_jobs(), self.tell(&changed));
        let (jobs, missed) = match told {
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

    /// Has the other centers look that run these jobs.
    async fn tell(&self, changed: &BTreeSet<u64>) {
        let reach = &self.tools.reach;
        let (picture, me) = (reach.picture(), reach.me());
        let runners: BTreeSet<_> = changed.iter().map(|id| owners::runner(&picture, me, *id)).collect();
        let calls = runners.into_iter().filter(|runner| *runner != me).map(|runner| async move {
            // One that does not hear it looks by itself in a while; this center has its own to do.
            if let Ok(Err(error)) = timeout(POLL, reach.centers.look(runner)).await {
                tracing::debug!(%runner, %error, "a center was not told of a change of its broadcasts");
            }
        });
        join_all(calls).await;
    }

    /// Takes jobs up, urgent and older ones first.
    fn begin(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by_key(|job| (!job.urgent, job.id));
        self.put_off = false;
        for job in jobs {
            if self.running.len() >= self.most {
                self.put_off = true;
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
