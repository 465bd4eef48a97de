//! A job with a speed: slices at its pace, as wide as what the rooms say asks for, and what their answers mean for the speed.

use std::time::Duration;

use futures::{
    FutureExt as _,
    future::{BoxFuture, OptionFuture},
};
use proto::internal::{ChangeJobRequest, JobState};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Run, Tools};
use crate::jobs::{
    feedback::Verdict,
    pace::TICK,
    ring,
    sense::{Census, Sensed, sense},
};

/// Rooms are asked so often while a job is paced: what a room that fills at once gets too much of is half a second of slices.
const SENSE: Duration = Duration::from_millis(500);
/// What is judged of the answers is judged so often.
const JUDGE: Duration = Duration::from_secs(1);
/// Slices smaller than this are corrected by what was sent at once: chance weighs more in them.
const SMALL_RATE: u32 = 400;

impl Run {
    /// Releases at the job's pace, as long as it has one and is at the same step.
    pub(super) async fn paced(&mut self) {
        let step = ring::step(&self.job);
        self.audience = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sensing: Option<BoxFuture<'static, (Sensed, Census)>> = None;
        let mut asked: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = self.hear() => {}
                Some((sensed, census)) = OptionFuture::from(sensing.as_mut()) => {
                    sensing = None;
                    self.census = census;
                    self.sensed(sensed).await;
                }
                _ = tick.tick() => {
                    let often = if self.job.users_per_second < SMALL_RATE { TICK } else { SENSE };
                    let due = asked.is_none_or(|at| at.elapsed() + TICK / 2 >= often);
                    if sensing.is_none() && due {
                        asked = Some(Instant::now());
                        let Tools { reach, parts, .. } = self.tools.clone();
                        let (job, census) = (self.job.clone(), self.census.clone());
                        sensing = Some(sense(reach, parts, job, census, self.pacer.mark()).boxed());
                    }
                    self.tick().await;
                }
            }
            let goes_on = self.job.state() == JobState::Running
                && self.job.users_per_second > 0
                && ring::step(&self.job) == step
                && self.tools.reach.now_ms() < ring::expires_ms(&self.job);
            if !goes_on {
                return;
            }
        }
    }

    /// One turn of the pace.
    async fn tick(&mut self) {
        // Nobody has counted yet, or there is no room: whoever comes would get it all at once.
        let Some(audience) = self.audience else { return };
        let bound = ring::bound(&self.job);
        let Some(width) = self.pacer.next(self.began.elapsed(), audience, bound, self.share) else { return };
        let (before, density) = (ring::place(&self.job), audience as f64 / bound as f64);
        let end = before.saturating_add(width).min(bound);
        if self.release_slice(width).await {
            self.pacer.released((end - before) as f64 * density);
        }
    }

    /// Takes what the rooms said.
    async fn sensed(&mut self, sensed: Sensed) {
        self.pacer.sent(&sensed.sent, sensed.mark);
        self.audience = sensed.audience;
        self.share = sensed.share;
        let now = self.began.elapsed();
        let bounded = self.job.min_ack_ratio > 0.0 || self.job.max_latency_ms > 0;
        if !bounded || now.saturating_sub(self.judged) < JUDGE.mul_f64(0.9) {
            return;
        }
        self.judged = now;
        let change = match self.judge.judge(now, &self.job, &sensed.progress) {
            Verdict::Keep => return,
            Verdict::Speed(speed, why) => {
                self.tools.reach.metrics.job_slowed.inc();
                ChangeJobRequest { users_per_second: Some(speed), why: Some(why), ..Default::default() }
            }
            Verdict::Pause(why) => {
                self.tools.reach.metrics.job_paused.inc();
                tracing::warn!(id = self.job.id, why, "a broadcast has paused itself");
                ChangeJobRequest { state: JobState::Paused.into(), why: Some(why), ..Default::default() }
            }
        };
        self.change(change).await;
    }
}
