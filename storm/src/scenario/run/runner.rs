//! The runner: begins and ends phases by the schedule, takes samples, and sees whether everything lives.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{task::JoinSet, time::Instant};

use super::{
    sampler::Sampler,
    schedule::{Event, Schedule},
    totals::Totals,
    track::{Mark, Track},
    verdict,
    view::View,
    work::{Ground, Outcome},
};
use crate::{
    fleet::{Counts, Fleet, FleetSpec, Interval, Snapshot},
    floor::FloorReport,
    latency::Latencies,
    procfs::Machine,
    report::{Figures, RunReport, Sent, StormUse},
    scenario::script::{Kind, Script},
};

/// The runner looks around at least this often.
const LOOK: Duration = Duration::from_millis(50);

/// While connections are opened: the end of a ramp is known to this.
const RAMP_LOOK: Duration = Duration::from_millis(5);

/// A run under way.
pub(super) struct Runner {
    pub(super) script: Script,
    pub(super) fleet: Fleet,
    pub(super) ground: Ground,
    pub(super) schedule: Schedule,
    pub(super) tracks: Vec<Track>,
    pub(super) work: JoinSet<(usize, anyhow::Result<Outcome>)>,
    pub(super) view: View,
    sampler: Sampler,
    began: Instant,
    started: std::time::SystemTime,
    /// Measured by the devices in the whole run.
    measured: Interval,
    last_sample: Duration,
    pub(super) floor: Option<FloorReport>,
    pub(super) problems: Vec<String>,
    pub(super) cuts_per_s: f64,
}

impl Runner {
    pub(super) async fn begin(script: Script, quiet: bool) -> anyhow::Result<Self> {
        let devices = &script.fleet;
        let calls = |kind: &Kind| matches!(kind, Kind::Unicast(_) | Kind::Broadcast(_));
        let needs_centers = script.phases.iter().any(|phase| calls(&phase.kind));
        let centers = needs_centers.then(|| script.api.connect()).transpose()?.map(Arc::new);
        let sampler = Sampler::new(script.run.sample, &devices.watched(), &devices.programs);
        if let Some(pid) = devices.pids.iter().find(|pid| !crate::procfs::lives(**pid)) {
            anyhow::bail!("fleet.pids: there is no process {pid}");
        }
        let spec = FleetSpec {
            // Nobody begins before a ramp.
            begin: 0,
            // Twice as often as it is asked for, so that a sample holds what happened in its time.
            sample_ms: Some(u32::try_from(script.run.sample.as_millis() / 2).unwrap_or(u32::MAX).max(10)),
            ..devices.spec(&script.api, devices.seed(), false).await?
        };
        let fleet = Fleet::launch(&spec, &devices.workers()).await?;
        let ground = Ground {
            spec: Arc::new(spec),
            counts: fleet.reader(),
            centers,
            totals: Arc::new(Totals::default()),
            programs: devices.programs.clone(),
        };
        let mut runner = Self {
            schedule: Schedule::new(&script.phases)?,
            tracks: script.phases.iter().map(|_| Track::default()).collect(),
            work: JoinSet::new(),
            view: View::new(&script.phases, quiet),
            sampler,
            began: Instant::now(),
            started: std::time::SystemTime::now(),
            measured: Interval::default(),
            last_sample: Duration::ZERO,
            floor: None,
            problems: Vec::new(),
            cuts_per_s: 0.0,
            script,
            fleet,
            ground,
        };
        runner.sampler.begin(&runner.fleet.pids());
        Ok(runner)
    }

    pub(super) async fn run(mut self) -> anyhow::Result<RunReport> {
        if let Err(error) = self.phases().await {
            self.problems.push(format!("{error:#}"));
        }
        self.tracks.iter().for_each(|track| track.part.cancel.cancel());
        while let Some(ended) = self.work.join_next().await {
            self.ended(ended);
        }
        let settled = if self.problems.is_empty() { self.settle().await } else { Ok(()) };
        if let Err(error) = settled {
            self.problems.push(format!("{error:#}"));
        }
        self.sample();
        let snapshot = self.fleet.snapshot().await;
        let snapshot = snapshot.inspect_err(|error| {
            if self.problems.is_empty() {
                self.problems.push(format!("{error:#}"));
            }
        });
        let report = self.report(snapshot.unwrap_or_default());
        match self.fleet.stop().await {
            Err(error) if report.problems.is_empty() => Err(error),
            _ => Ok(report),
        }
    }

    async fn phases(&mut self) -> anyhow::Result<()> {
        while !self.schedule.is_over() {
            let now = self.now();
            for event in self.schedule.poll(now) {
                match event {
                    Event::Start(phase) => self.start(phase).await?,
                    Event::End(phase) => self.end(phase).await?,
                }
            }
            self.look_at_ramps();
            if now >= self.sampler.next() {
                self.sample();
                self.keep_churn().await?;
                self.fleet.check()?;
            }
            let patience = self.patience();
            tokio::select! {
                Some(ended) = self.work.join_next() => self.ended(ended),
                () = tokio::time::sleep(patience) => {}
                signal = tokio::signal::ctrl_c() => {
                    signal.context("waiting for Ctrl-C")?;
                    anyhow::bail!("interrupted");
                }
            }
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn patience(&self) -> Duration {
        let ramping = self.tracks.iter().any(|track| track.ramp.is_some() && track.is_running());
        let look = if ramping { RAMP_LOOK } else { LOOK };
        let next = self.schedule.next_at().map_or(self.sampler.next(), |at| at.min(self.sampler.next()));
        look.min(next.saturating_sub(self.now()))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { at: self.now(), counts: self.fleet.counts() }
    }

    fn sent(&self) -> Sent {
        self.tracks.iter().map(|track| track.part.sent()).fold(Sent::default(), Sent::plus)
    }

    fn sample(&mut self) {
        let measured = self.fleet.take_interval();
        let mark = self.mark();
        for track in &mut self.tracks {
            track.note(self.last_sample, &measured);
        }
        self.measured.merge(&measured);
        self.last_sample = mark.at;
        let sent = self.sent();
        let sample = self.sampler.take(mark.at, mark.counts, sent, &measured);
        self.view.now(mark.at, sample);
        for (index, track) in self.tracks.iter().enumerate().filter(|(_, track)| track.is_running()) {
            let begun = track.begin.map_or(mark.at, |begin| begin.at);
            let done = match &track.ramp {
                Some(_) => mark.counts.ever_bound,
                None => mark.at.saturating_sub(begun).as_millis() as u64,
            };
            self.view.set(index, done, track.part.note());
        }
    }

    /// Waits for what was accepted and has not arrived. Whoever does not read does so now.
    async fn settle(&mut self) -> anyhow::Result<()> {
        if self.fleet.counts().slow > 0 {
            self.fleet.slow(0.0).await?;
        }
        let (messages, broadcasts) = (self.sent().owed(), self.ground.totals.owed());
        let until = self.now() + self.script.run.settle;
        let all = |c: &Counts| c.messages + c.transients >= messages && c.broadcasts >= broadcasts;
        loop {
            let look = Instant::now() + Duration::from_millis(200);
            if self.fleet.wait(look, all).await? || self.now() >= until {
                // What was measured last is handed over within half a sample.
                tokio::time::sleep(self.script.run.sample.min(Duration::from_secs(1))).await;
                return Ok(());
            }
            if self.now() >= self.sampler.next() {
                self.sample();
            }
        }
    }

    fn report(&mut self, snapshot: Snapshot) -> RunReport {
        let mark = self.mark();
        // A worker that died has taken its counts with it: what was told last is what there is.
        let bound = mark.counts.bound;
        let (rss_bytes, own_bytes, cpus) = self.sampler.storm_use(mark.at);
        let mut whole = Figures::new(mark.at.as_secs_f64(), self.sent(), mark.counts, &self.measured);
        let came = mark.counts.messages + mark.counts.transients;
        let missing = match mark.counts.slow_broadcasts {
            0 => self.ground.totals.missing(&snapshot.tallies),
            _ => self.ground.totals.owed().saturating_sub(mark.counts.broadcasts),
        };
        whole.lost = Some(whole.sent.owed().saturating_sub(came) + missing);
        whole.doubled = Some(came.saturating_sub(whole.sent.pushes));
        whole.disordered = Some(snapshot.findings.misnumbered + snapshot.findings.misdelivered);
        let phases: Vec<_> = self
            .script
            .phases
            .iter()
            .zip(&self.tracks)
            .map(|(phase, track)| track.report(phase, &mark))
            .collect();
        let mut accept = Latencies::default();
        self.tracks.iter().for_each(|track| accept.merge(&track.outcome.accept));
        whole.accept = accept.percentiles();
        let mut report = RunReport {
            name: self.script.name.clone(),
            description: self.script.description.clone(),
            started: humantime::format_rfc3339_seconds(self.started).to_string(),
            took_s: mark.at.as_secs_f64(),
            seed: self.script.fleet.seed.unwrap_or_default(),
            run: self.ground.spec.run,
            machine: Machine::here(),
            storm: StormUse {
                version: env!("CARGO_PKG_VERSION"),
                devices: self.ground.spec.count,
                workers: self.fleet.workers(),
                rss_bytes,
                bytes_per_connection: (bound > 0).then(|| rss_bytes as f64 / bound as f64),
                own_bytes,
                own_bytes_per_connection: (bound > 0).then(|| own_bytes as f64 / bound as f64),
                cpus,
            },
            checks: Vec::new(),
            problems: self.problems.clone(),
            whole,
            phases,
            servers: self.sampler.servers(mark.at, bound),
            kernel_before: self.sampler.kernel_before,
            floor: self.floor.take(),
            reasons: snapshot.reasons,
            failures: self.ground.totals.failures(),
            samples: std::mem::take(&mut self.sampler.samples),
            script: self.script.to_toml(),
        };
        report.checks = verdict::checks(&self.script, &report);
        report
    }
}
