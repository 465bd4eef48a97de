//! What the runner does when a phase begins, goes on and ends.

use tokio::task::JoinError;

use super::{
    broadcasts, ends,
    runner::Runner,
    track::RampGoal,
    unicast,
    view::told,
    work::{Outcome, Part},
};
use crate::{
    floor::{self, FloorOptions},
    report::Sample,
    scenario::script::{Floor, Kind, Ramp},
};

/// Churn is told anew when the number of connections has changed by more than this share.
const DRIFT: f64 = 0.05;

impl Runner {
    pub(super) async fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let phase = self.script.phases[index].clone();
        let mark = self.mark();
        self.tracks[index].begin = Some(mark);
        let goal = match (&phase.kind, phase.when.duration) {
            (Kind::Ramp(ramp), _) => Some(u64::from(self.ramp_to(ramp))),
            (_, Some(duration)) => u64::try_from(duration.as_millis()).ok(),
            _ => None,
        };
        self.view.start(index, goal);
        let (ground, part) = (self.ground.clone(), self.tracks[index].part.clone());
        match phase.kind {
            Kind::Ramp(ramp) => self.ramp(index, &ramp).await?,
            Kind::Hold(_) => {}
            Kind::Churn(_) => self.keep_churn().await?,
            Kind::Slow(slow) => self.fleet.slow(slow.share).await?,
            Kind::Unicast(plan) => self.spawn(index, unicast::run(ground, plan, part)),
            Kind::Broadcast(plan) => self.spawn(index, broadcasts::run(ground, plan, part)),
            Kind::Drain(plan) => self.spawn(index, ends::drain(ground, plan, part)),
            Kind::Execute(plan) => self.spawn(index, ends::execute(plan, part)),
            Kind::Floor(plan) => {
                let program = self.script.fleet.worker_program.clone();
                self.spawn(index, measure_floor(plan, program, part));
            }
        }
        Ok(())
    }

    fn spawn(&mut self, index: usize, work: impl Future<Output = anyhow::Result<Outcome>> + Send + 'static) {
        self.work.spawn(async move { (index, work.await) });
    }

    /// A phase's time is over.
    pub(super) async fn end(&mut self, index: usize) -> anyhow::Result<()> {
        self.tracks[index].part.cancel.cancel();
        match &self.script.phases[index].kind {
            Kind::Unicast(_) | Kind::Broadcast(_) | Kind::Drain(_) | Kind::Execute(_) | Kind::Floor(_) => {}
            Kind::Ramp(_) | Kind::Hold(_) => self.finish(index),
            Kind::Churn(_) => {
                self.finish(index);
                self.keep_churn().await?;
            }
            Kind::Slow(_) => {
                self.finish(index);
                self.fleet.slow(self.script.fleet.line.slow).await?;
            }
        }
        Ok(())
    }

    /// A phase's work has ended.
    pub(super) fn ended(&mut self, ended: Result<(usize, anyhow::Result<Outcome>), JoinError>) {
        match ended {
            Ok((index, outcome)) => {
                self.tracks[index].outcome = outcome.unwrap_or_else(|error| Outcome {
                    failed: Some(format!("{error:#}")),
                    ..Outcome::default()
                });
                self.floor = self.tracks[index].outcome.floor.take().or(self.floor.take());
                self.finish(index);
            }
            Err(panic) => self.problems.push(format!("a phase's work panicked: {panic}")),
        }
    }

    /// A phase is over.
    fn finish(&mut self, index: usize) {
        let mark = self.mark();
        self.schedule.done(index, mark.at);
        let track = &mut self.tracks[index];
        track.end = Some(mark);
        let report = track.report(&self.script.phases[index], &mark);
        let figures = &report.figures;
        let whole = Sample {
            bound: figures.counts.bound,
            binds_per_s: figures.binds_per_s,
            messages_per_s: figures.messages_per_s,
            deliveries_per_s: figures.deliveries_per_s,
            connect: figures.connect,
            delivery: figures.delivery,
            broadcast: figures.broadcast,
            ..Sample::default()
        };
        let mut words = format!("{:.1} s  {}", figures.span_s, told(&whole));
        for more in [Some(report.note.as_str()), report.failed.as_deref()].into_iter().flatten() {
            if !more.is_empty() {
                words = format!("{words}  ({more})");
            }
        }
        self.view.end(index, &words);
    }

    fn ramp_to(&self, ramp: &Ramp) -> u32 {
        ramp.connections.unwrap_or(self.ground.spec.count).min(self.ground.spec.count)
    }

    async fn ramp(&mut self, index: usize, ramp: &Ramp) -> anyhow::Result<()> {
        let devices = self.ramp_to(ramp);
        let rate = ramp.rate.unwrap_or(self.script.fleet.ramp);
        let within = ramp.within.unwrap_or_else(|| self.script.fleet.patience());
        self.tracks[index].ramp = Some(RampGoal { devices, deadline: self.now() + within });
        self.fleet.ramp(devices, rate).await
    }

    /// A ramp is done when everybody has been bound who can be.
    pub(super) fn look_at_ramps(&mut self) {
        let (now, counts) = (self.now(), self.fleet.counts());
        let came = counts.ever_bound + counts.gone;
        for index in 0..self.tracks.len() {
            let track = &mut self.tracks[index];
            let Some(goal) = track.ramp.filter(|_| track.is_running()) else { continue };
            if came >= u64::from(goal.devices) {
                self.finish(index);
            } else if now >= goal.deadline {
                let bound = counts.ever_bound;
                track.outcome.failed =
                    Some(format!("{bound} of {} devices were bound in time", goal.devices));
                self.finish(index);
            }
        }
    }

    /// Tells the workers how many connections to cut, if that has changed.
    pub(super) async fn keep_churn(&mut self) -> anyhow::Result<()> {
        let running = self.script.phases.iter().zip(&self.tracks).filter(|(_, track)| track.is_running());
        let share: f64 = running
            .filter_map(|(phase, _)| match &phase.kind {
                Kind::Churn(churn) => Some(churn.share),
                _ => None,
            })
            .sum();
        let counts = self.fleet.counts();
        let per_s = share * counts.ever_bound.saturating_sub(counts.gone) as f64;
        let drifted = (per_s - self.cuts_per_s).abs() > DRIFT * self.cuts_per_s;
        if drifted || (per_s == 0.0) != (self.cuts_per_s == 0.0) {
            self.cuts_per_s = per_s;
            self.fleet.churn(per_s).await?;
        }
        Ok(())
    }
}

async fn measure_floor(
    plan: Floor,
    program: Option<std::path::PathBuf>,
    part: Part,
) -> anyhow::Result<Outcome> {
    part.say("measuring what the kernel allows");
    let options = FloorOptions {
        connections: plan.connections,
        payload: plan.payload,
        seconds: plan.seconds,
        server_cpu: plan.server_cpu,
        program,
        ..FloorOptions::default()
    };
    // It has an event loop of its own, and blocks.
    let report = tokio::task::spawn_blocking(move || floor::run(&options)).await??;
    let note = format!("the bare loop sends {:.0}/s", report.sends_per_second);
    Ok(Outcome { note, floor: Some(report), ..Outcome::default() })
}
