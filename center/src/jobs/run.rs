//! One job, at the center that runs it: waits for its time, releases it slice by slice, and minds what the archive says of it.
//!
//! Everything that is decided here is compared with the archive when it is done. So the task may be dropped at any moment, and
//! another center may run the same job at the same time: one of them is told that the job stands elsewhere, and goes on there.

mod paced;

use std::time::Duration;

use bytes::Bytes;
use proto::internal::{BroadcastNotice, ChangeJobRequest, Job, JobState, ReleaseJobRequest};
use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{feedback::Judge, gate::Gates, pace::Pacer, parts::Parts, reach::Reach, ring, sense::Census};
use crate::notices::Notices;

/// After a failure of the archive. With jitter, because all jobs of a saver fail together.
const FAILED: Duration = Duration::from_millis(500);
/// A long wait is looked at anew so often: the clock may be set.
const NAP: Duration = Duration::from_secs(1);

/// What all jobs of a center share.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) reach: Reach,
    pub(crate) parts: Parts,
    pub(crate) notices: Notices,
    pub(crate) gates: Gates,
}

/// A job under way.
pub(crate) struct Run {
    tools: Tools,
    /// As last heard; its payload is apart.
    job: Job,
    payload: Option<Bytes>,
    /// What the archive says, from whoever polls it.
    news: watch::Receiver<Job>,
    pacer: Pacer,
    judge: Judge,
    census: Census,
    audience: Option<u64>,
    share: f64,
    began: Instant,
    judged: Duration,
}

impl Run {
    pub(crate) fn new(tools: Tools, mut news: watch::Receiver<Job>) -> Run {
        let job = news.borrow_and_update().clone();
        let pacer = Pacer::new(job.users_per_second);
        Run {
            tools,
            job,
            payload: None,
            news,
            pacer,
            judge: Judge::default(),
            census: Census::default(),
            audience: None,
            share: 1.0,
            began: Instant::now(),
            judged: Duration::ZERO,
        }
    }

    /// Runs the job to its end.
    pub(crate) async fn run(mut self) {
        while !ring::has_ended(&self.job) {
            match self.job.state() {
                JobState::Scheduled => self.wait_for_start().await,
                JobState::Running => self.release().await,
                _ => self.hear().await,
            }
        }
        tracing::debug!(id = self.job.id, state = self.job.state().as_str_name(), "a broadcast has ended");
    }

    /// Waits for news.
    async fn hear(&mut self) {
        if self.news.changed().await.is_err() {
            // Whoever told them has gone, and this task goes with it.
            return std::future::pending().await;
        }
        let news = self.news.borrow_and_update().clone();
        self.adopt(news);
    }

    /// Takes the job as the archive has it, unless it is older than what is known.
    fn adopt(&mut self, news: Job) {
        let newer = (news.revision, news.released) > (self.job.revision, self.job.released);
        if !newer && !ring::has_ended(&news) {
            return;
        }
        if self.job.state() == JobState::Running && news.state() != JobState::Running {
            self.pacer.stop();
            self.judge = Judge::default();
        }
        // It may have been read before a slice of this center.
        let released = news.released.max(self.job.released);
        self.take_from(Job { released, ..news });
    }

    /// Takes the job as the archive has it.
    fn take_from(&mut self, news: Job) {
        if news.released != self.job.released {
            // Not by this center, which would know.
            self.pacer.begin_anew();
        }
        self.take(news);
    }

    fn take(&mut self, job: Job) {
        if ring::step(&job) != ring::step(&self.job) {
            // Another audience.
            self.audience = None;
            self.census = Census::default();
        }
        if job.users_per_second != self.job.users_per_second {
            self.pacer.set_rate(job.users_per_second);
        }
        self.job = Job { payload: Bytes::new(), ..job };
    }

    async fn wait_for_start(&mut self) {
        let now = self.tools.reach.now_ms();
        if now >= self.job.starts_ms {
            return self
                .change(ChangeJobRequest { state: JobState::Running.into(), ..Default::default() })
                .await;
        }
        self.nap(self.job.starts_ms - now).await;
    }

    /// Sleeps for at most `ms`, or until there are news.
    async fn nap(&mut self, ms: u64) {
        tokio::select! {
            () = sleep(Duration::from_millis(ms).min(NAP)) => {}
            () = self.hear() => {}
        }
    }

    /// Asks the archive for a change, for the revision that is known.
    async fn change(&mut self, change: ChangeJobRequest) {
        let (app, id, revision) = (self.job.app, self.job.id, self.job.revision);
        let now_ms = self.tools.reach.now_ms();
        let change = ChangeJobRequest { app, id, revision, now_ms, ..change };
        match self.tools.reach.savers.change_job(change).await {
            Ok(answer) => {
                if let Some(job) = answer.job {
                    self.adopt(job);
                }
            }
            Err(error) => self.failed(&error).await,
        }
    }

    async fn failed(&mut self, error: &peers::PeerError) {
        self.tools.reach.metrics.job_failures.inc();
        tracing::debug!(id = self.job.id, %error, "a broadcast waits for the archive");
        let jitter = rand::rng().random_range(0.5..1.5);
        sleep(FAILED.mul_f64(jitter)).await;
    }

    /// Releases while the job runs; comes back when it does not, or is to wait.
    async fn release(&mut self) {
        let now = self.tools.reach.now_ms();
        let due = ring::due_ms(&self.job);
        if now < due {
            self.pacer.stop();
            return self.nap(due - now).await;
        }
        // What is too late for anybody goes at once: nobody is sent it.
        let late = now >= ring::expires_ms(&self.job);
        if late || self.job.users_per_second == 0 {
            self.release_slice(ring::RING).await;
        } else {
            self.paced().await;
        }
    }

    /// Puts the next slice into the log and has the rooms told; whether it was this center that did.
    async fn release_slice(&mut self, width: u64) -> bool {
        let Some(payload) = self.payload().await else { return false };
        let slice = ring::next(&self.job, width);
        let request = ReleaseJobRequest {
            app: self.job.app,
            id: self.job.id,
            from: slice.from,
            to: slice.to,
            filter: Some(slice.filter.clone()),
            accepted_ms: self.job.accepted_ms,
            expires_ms: slice.expires_ms,
            last: slice.last,
        };
        // Held until the rooms' queue has the slice too, so that they hear of a log in its order.
        let _pass = self.tools.gates.pass(self.job.app, self.job.urgent).await;
        match self.tools.reach.savers.release_job(request).await {
            Ok(answer) if answer.released => {
                self.tools.reach.metrics.job_slices.inc();
                let mut job = self.job.clone();
                job.released = slice.to;
                if slice.last {
                    job.set_state(JobState::Released);
                }
                self.take(job);
                self.tools.notices.offer_slice(BroadcastNotice {
                    app: self.job.app,
                    epoch: answer.epoch,
                    bseq: answer.bseq,
                    id: self.job.id,
                    payload,
                    audience: self.job.audience.clone(),
                    accepted_ms: self.job.accepted_ms,
                    expires_ms: slice.expires_ms,
                    filter: Some(slice.filter),
                });
                true
            }
            Ok(answer) => {
                self.tools.reach.metrics.job_slices_refused.inc();
                match answer.job {
                    Some(job) => self.adopt_whatever(job),
                    None => self.wait_for_news().await,
                }
                false
            }
            Err(error) => {
                self.failed(&error).await;
                false
            }
        }
    }

    /// The archive refused a slice because the job is so, and not as it was thought to be.
    fn adopt_whatever(&mut self, job: Job) {
        if job.state() != JobState::Running {
            self.adopt(job);
        } else {
            self.take_from(job);
        }
    }

    /// The archive knows of no such job: the poll will say what there is.
    async fn wait_for_news(&mut self) {
        self.nap(NAP.as_millis() as u64).await;
    }

    /// What is to be sent; none while the archive does not answer.
    async fn payload(&mut self) -> Option<Bytes> {
        if self.payload.is_none() {
            match self.tools.reach.savers.find_job(self.job.app, self.job.id).await {
                Ok(answer) => self.payload = answer.job.map(|job| job.payload),
                Err(error) => self.failed(&error).await,
            }
            if self.payload.is_none() {
                self.wait_for_news().await;
            }
        }
        self.payload.clone()
    }
}
