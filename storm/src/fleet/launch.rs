//! All workers of a storm as one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command as Program, sync::Notify, time::Instant};

use super::{
    Command, Counts, FleetSpec, Interval, Receipt, Report, SharedCounts, Snapshot, link::Worker, spec::share,
};
use crate::limits;

/// How the devices are spread over threads and processes.
#[derive(Debug, Clone, Default)]
pub struct Workers {
    /// The program to start as a worker process: a `storm`. Absent: no processes can be started.
    pub program: Option<PathBuf>,
    /// How many processes; absent: as many as the limit of open files asks for, and none if one process will do.
    pub processes: Option<u32>,
}

/// Name of the hidden subcommand that makes a `storm` a worker.
pub(crate) const SUBCOMMAND: &str = "worker";

/// Each worker process may tell of its counts at most once in so many microseconds times the number of workers, so that
/// what this process has to read does not grow with them: 4,000 tellings a second take it a few hundredths of a core.
const TELLING_US: u32 = 250;

/// A worker answers a snapshot within milliseconds; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// All devices of a storm.
pub struct Fleet {
    workers: Vec<Worker>,
    changed: Arc<Notify>,
}

/// Reads a fleet's counts.
#[derive(Debug, Clone)]
pub struct Reader(Vec<SharedCounts>);

impl Reader {
    /// What all devices have done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.iter().map(SharedCounts::load).reduce(Counts::merge).unwrap_or_default()
    }
}

impl Fleet {
    /// Starts the workers; their devices begin to connect at once, at the pace of the specification.
    ///
    /// # Errors
    /// If there are more devices than open files and no program to start, or a worker cannot start.
    pub async fn launch(spec: &FleetSpec, how: &Workers) -> anyhow::Result<Self> {
        ensure!(spec.count > 0, "a storm needs at least one device");
        let room = limits::devices_per_process();
        let processes = match how.processes {
            Some(asked) => asked.clamp(1, spec.count),
            None if spec.count <= room => 0,
            None => spec.count.div_ceil(room),
        };
        let changed = Arc::new(Notify::new());
        let mut workers = Vec::new();
        if processes == 0 {
            workers.push(Worker::thread(spec.clone(), changed.clone())?);
        }
        let spec = &FleetSpec { tell_ms: (processes * TELLING_US / 1000).max(1), ..spec.clone() };
        for index in 0..processes {
            let Some(path) = &how.program else {
                bail!("{} devices need more files than this process may open ({room})", spec.count);
            };
            let mut program = Program::new(path);
            program.arg(SUBCOMMAND);
            workers.push(Worker::process(program, spec.part(index, processes), changed.clone()).await?);
        }
        Ok(Self { workers, changed })
    }

    /// What all devices have done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.reader().counts()
    }

    /// Reads the counts wherever the fleet itself is busy.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(self.workers.iter().map(|worker| worker.counts.clone()).collect())
    }

    /// Number of devices.
    #[must_use]
    pub fn devices(&self) -> u32 {
        self.workers.iter().map(|worker| worker.users).sum()
    }

    /// Threads or processes.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Waits until `done` holds of the counts; false if it does not by the deadline.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn wait(&mut self, deadline: Instant, done: impl Fn(&Counts) -> bool) -> anyhow::Result<bool> {
        // A look now and then also notices a worker that died without a word.
        const LOOK: Duration = Duration::from_millis(200);
        loop {
            if done(&self.counts()) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(false);
            }
            if tokio::time::timeout_at(deadline.min(now + LOOK), self.changed.notified()).await.is_err() {
                self.check()?;
            }
        }
    }

    /// Sees whether all workers live.
    ///
    /// # Errors
    /// If one does not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if let Some(how) = worker.ended() {
                let last = worker.first + worker.users.saturating_sub(1);
                bail!("worker {index} with users {} to {last} ended before its time: {how}", worker.first);
            }
        }
        Ok(())
    }

    /// The processes of the workers that have one of their own.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.workers.iter().filter_map(Worker::pid).collect()
    }

    /// What all devices measured since this was asked last, as far as they have handed it over
    /// ([`FleetSpec::sample_ms`]).
    #[must_use]
    pub fn take_interval(&self) -> Interval {
        let mut all = Interval::default();
        for interval in self.workers.iter().filter_map(|worker| worker.counts.take_interval()) {
            all.merge(&interval);
        }
        all
    }

    /// Lets devices begin until `to` of them have, `per_s` a second, all workers together.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn ramp(&mut self, to: u32, per_s: f64) -> anyhow::Result<()> {
        let (all, first) = (self.devices(), self.workers.first().map_or(0, |worker| worker.first));
        for worker in &mut self.workers {
            let from = worker.first - first;
            let to = share(to, from, from + worker.users, all);
            let per_s = per_s * f64::from(worker.users) / f64::from(all.max(1));
            worker.send(Command::Ramp { to, per_s }).await?;
        }
        Ok(())
    }

    /// Notified whenever a count has changed.
    #[must_use]
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Cuts so many connections per second from now on, all workers together.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn churn(&mut self, per_s: f64) -> anyhow::Result<()> {
        let all = f64::from(self.devices().max(1));
        for worker in &mut self.workers {
            let share = f64::from(worker.users) / all;
            worker.send(Command::Churn { per_s: per_s * share }).await?;
        }
        Ok(())
    }

    /// Lets this share of the devices leave unread what comes from now on, and all others read.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn slow(&mut self, share: f64) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            worker.send(Command::Slow { share }).await?;
        }
        Ok(())
    }

    /// All that has been measured so far.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn snapshot(&mut self) -> anyhow::Result<Snapshot> {
        let mut all: Option<Snapshot> = None;
        for worker in &mut self.workers {
            worker.send(Command::Snapshot).await?;
        }
        for worker in &mut self.workers {
            let answer =
                tokio::time::timeout(PATIENCE, worker.report()).await.context("a worker hangs")??;
            let Report::Snapshot(snapshot) = answer else { bail!("a worker answered something else") };
            match &mut all {
                Some(all) => all.merge(*snapshot),
                None => all = Some(*snapshot),
            }
        }
        all.context("no worker")
    }

    /// What came to whom; `each` is called once per user.
    ///
    /// # Errors
    /// If a worker is gone.
    pub async fn receipts(&mut self, mut each: impl FnMut(Receipt)) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            worker.send(Command::Receipts).await?;
            loop {
                let answer =
                    tokio::time::timeout(PATIENCE, worker.report()).await.context("a worker hangs")??;
                let Report::Receipts { part, last } = answer else {
                    bail!("a worker answered something else")
                };
                part.into_iter().for_each(&mut each);
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Closes all connections and ends all workers.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub async fn stop(self) -> anyhow::Result<()> {
        let ends = self.workers.into_iter().map(Worker::stop);
        futures::future::try_join_all(ends).await.map(drop)
    }
}
