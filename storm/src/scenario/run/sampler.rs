//! Figures over time: counts become rates, and processes are looked at.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    fleet::{Counts, Interval},
    procfs::{self, Kernel, Usage},
    report::{ProcessUse, ProgramSample, Sample, Sent, ServerUse},
};

/// Points of a plot. When there are more, every other one goes and the rest come half as often: a plot is a thousand
/// pixels wide, and a run may take a day.
const MOST: usize = 2_000;

/// Processes that have begun since are looked for every so many samples.
const RESCAN: u32 = 10;

/// Takes the samples of a run.
pub(super) struct Sampler {
    every: Duration,
    next: Duration,
    before: Look,
    start: Duration,
    programs: Vec<String>,
    servers: BTreeMap<u32, Watched>,
    storm: BTreeMap<u32, Watched>,
    until_rescan: u32,
    pub(super) samples: Vec<Sample>,
    pub(super) kernel_before: Kernel,
}

/// The sums at one moment.
#[derive(Clone, Copy, Default)]
struct Look {
    at: Duration,
    counts: Counts,
    sent: Sent,
    kernel: Kernel,
}

#[derive(Debug, Clone)]
struct Watched {
    pid: u32,
    name: String,
    /// When it was seen first, and what it had used then.
    first: (Duration, Usage),
    last: Usage,
    peak: u64,
    /// Processors kept busy since the sample before.
    cpus: f64,
    gone: bool,
}

impl Sampler {
    /// Looks at the servers for the first time.
    pub(super) fn new(every: Duration, pids: &[u32], programs: &[String]) -> Self {
        let kernel = Kernel::now();
        let mut sampler = Self {
            every,
            next: every,
            before: Look { kernel, ..Look::default() },
            start: Duration::ZERO,
            programs: programs.to_vec(),
            servers: BTreeMap::new(),
            storm: BTreeMap::new(),
            until_rescan: RESCAN,
            samples: Vec::new(),
            kernel_before: kernel,
        };
        for pid in pids {
            watch(&mut sampler.servers, *pid, Duration::ZERO);
        }
        sampler
    }

    /// The run begins now; these are the storm's own processes.
    pub(super) fn begin(&mut self, workers: &[u32]) {
        for pid in workers.iter().chain([&std::process::id()]) {
            watch(&mut self.storm, *pid, self.start);
        }
    }

    /// When the next sample is due.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Takes a sample.
    pub(super) fn take(&mut self, at: Duration, counts: Counts, sent: Sent, measured: &Interval) -> &Sample {
        if self.samples.len() >= MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
        self.next = at + self.every;
        self.until_rescan -= 1;
        if self.until_rescan == 0 {
            self.until_rescan = RESCAN;
            for pid in procfs::of_programs(&self.programs) {
                watch(&mut self.servers, pid, at);
            }
        }
        let seconds = at.saturating_sub(self.before.at).as_secs_f64().max(1e-3);
        self.servers.values_mut().chain(self.storm.values_mut()).for_each(|one| one.look(seconds));
        let kernel = Kernel::now();
        let since = counts.since(&self.before.counts);
        let rate = |count: u64| count as f64 / seconds;
        let errors = since.connect_failures + since.bind_failures + since.disconnects;
        let sample = Sample {
            at_s: at.as_secs_f64(),
            bound: counts.bound,
            binds_per_s: rate(since.binds),
            messages_per_s: rate(since.messages + since.transients),
            deliveries_per_s: rate(since.broadcasts),
            accepted_per_s: rate(sent.accepted.saturating_sub(self.before.sent.accepted)),
            errors_per_s: rate(errors + sent.failed.saturating_sub(self.before.sent.failed)),
            connect: measured.connect.percentiles(),
            delivery: measured.delivery.percentiles(),
            acked: measured.acked.percentiles(),
            broadcast: measured.broadcast.percentiles(),
            servers: by_program(&self.servers),
            storm: self.storm_now(),
            kernel,
            kernel_cpus: (kernel.system_s - self.before.kernel.system_s).max(0.0) / seconds,
        };
        self.before = Look { at, counts, sent, kernel };
        self.samples.push(sample);
        &self.samples[self.samples.len() - 1]
    }

    fn storm_now(&self) -> ProgramSample {
        let living = self.storm.values().filter(|one| !one.gone);
        living.fold(ProgramSample { name: "storm".into(), ..ProgramSample::default() }, |sum, one| {
            ProgramSample {
                processes: sum.processes + 1,
                rss_bytes: sum.rss_bytes + one.last.rss_bytes,
                cpus: sum.cpus + one.cpus,
                ..sum
            }
        })
    }

    /// Of the storm's processes when they were last seen: resident memory, their own part of it, and the processors they
    /// kept busy on average.
    pub(super) fn storm_use(&self, took: Duration) -> (u64, u64, f64) {
        let rss = self.storm.values().map(|one| one.last.rss_bytes).sum();
        let own = self.storm.values().map(|one| one.last.own_bytes).sum();
        let cpu_s: f64 = self.storm.values().map(|one| one.last.cpu_s - one.first.1.cpu_s).sum();
        (rss, own, cpu_s / took.as_secs_f64().max(1e-3))
    }

    /// The servers' processes when they were last seen, by program.
    pub(super) fn servers(&self, took: Duration, bound: u64) -> Vec<ServerUse> {
        let mut all: BTreeMap<&str, ServerUse> = BTreeMap::new();
        for (pid, one) in &self.servers {
            let (since, first) = one.first;
            let seconds = took.saturating_sub(since).as_secs_f64().max(1e-3);
            let server = all.entry(&one.name).or_default();
            server.name.clone_from(&one.name);
            server.processes.push(ProcessUse {
                pid: *pid,
                rss_bytes: one.last.rss_bytes,
                rss_peak_bytes: one.peak,
                rss_grown_bytes: one.last.rss_bytes as i64 - first.rss_bytes as i64,
                cpus: (one.last.cpu_s - first.cpu_s) / seconds,
            });
        }
        let mut all: Vec<ServerUse> = all.into_values().collect();
        for server in &mut all {
            let grown: i64 = server.processes.iter().map(|one| one.rss_grown_bytes).sum();
            server.bytes_per_connection = (bound > 0).then(|| grown as f64 / bound as f64);
        }
        all
    }
}

/// Takes the first look at a process, unless it is known; one that is not there is passed over.
fn watch(all: &mut BTreeMap<u32, Watched>, pid: u32, at: Duration) {
    if let (false, Ok(usage)) = (all.contains_key(&pid), procfs::usage(pid)) {
        let watched = Watched {
            pid,
            name: procfs::name(pid),
            first: (at, usage),
            last: usage,
            peak: usage.rss_bytes,
            cpus: 0.0,
            gone: false,
        };
        all.insert(pid, watched);
    }
}

impl Watched {
    /// Looks again after so many seconds. What is gone keeps what it had last.
    fn look(&mut self, seconds: f64) {
        match procfs::usage(self.pid) {
            Ok(now) => {
                self.cpus = (now.cpu_s - self.last.cpu_s).max(0.0) / seconds;
                self.peak = self.peak.max(now.rss_bytes);
                self.last = now;
            }
            Err(_) => {
                self.gone = true;
                self.cpus = 0.0;
            }
        }
    }
}

fn by_program(all: &BTreeMap<u32, Watched>) -> Vec<ProgramSample> {
    let mut programs: BTreeMap<&str, ProgramSample> = BTreeMap::new();
    for one in all.values() {
        let program = programs.entry(&one.name).or_default();
        program.name.clone_from(&one.name);
        program.processes += usize::from(!one.gone);
        program.rss_bytes += if one.gone { 0 } else { one.last.rss_bytes };
        program.cpus += one.cpus;
    }
    programs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_rates() {
        let mut sampler = Sampler::new(Duration::from_secs(1), &[std::process::id()], &[]);
        sampler.begin(&[]);
        let counts = Counts { messages: 100, bound: 7, ..Counts::default() };
        let sent = Sent { accepted: 40, failed: 2, ..Sent::default() };
        let first = sampler.take(Duration::from_secs(2), counts, sent, &Interval::default()).clone();
        assert_eq!((first.messages_per_s, first.accepted_per_s, first.errors_per_s), (50.0, 20.0, 1.0));
        assert_eq!((first.bound, first.servers.len(), first.storm.processes), (7, 1, 1));
        let second = sampler.take(Duration::from_secs(3), counts, sent, &Interval::default());
        assert_eq!((second.messages_per_s, second.bound), (0.0, 7));
        assert_eq!(sampler.servers(Duration::from_secs(3), 7)[0].processes.len(), 1);
    }

    #[test]
    fn a_long_run_keeps_its_points_few() {
        let mut sampler = Sampler::new(Duration::from_secs(1), &[], &[]);
        for s in 0..3 * MOST as u64 {
            if Duration::from_secs(s) >= sampler.next() {
                sampler.take(
                    Duration::from_secs(s),
                    Counts::default(),
                    Sent::default(),
                    &Interval::default(),
                );
            }
        }
        assert!(sampler.samples.len() <= MOST && sampler.samples.len() > MOST / 2);
        assert_eq!(sampler.samples[1].at_s, 5.0);
    }
}
