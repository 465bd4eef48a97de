//! Live progress: a line for each phase and one for the present figures on a terminal, and a plain line now and then where there
//! is none.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{report::Sample, scenario::script::Phase};

/// Where there is no terminal, a line this often: enough for the log of a build, and not too much.
const PLAIN: Duration = Duration::from_secs(5);

/// Shows how far a run is.
pub(super) struct View {
    lines: MultiProgress,
    phases: Vec<Option<ProgressBar>>,
    /// The last line: figures that belong to no phase, because phases overlap.
    now: ProgressBar,
    names: Vec<String>,
    width: usize,
    mode: Mode,
}

enum Mode {
    Quiet,
    Plain { last: Instant },
    Terminal,
}

impl View {
    pub(super) fn new(phases: &[Phase], quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, false) => Mode::Plain { last: Instant::now() },
            (false, true) => Mode::Terminal,
        };
        let lines = MultiProgress::new();
        if !matches!(mode, Mode::Terminal) {
            lines.set_draw_target(ProgressDrawTarget::hidden());
        }
        let now = lines.add(ProgressBar::new(0));
        now.set_style(style("{wide_msg}"));
        let names: Vec<String> = phases.iter().map(|phase| phase.name.clone()).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Self { lines, phases: vec![None; names.len()], now, names, width, mode }
    }

    /// A phase begins; `goal` is what its bar is full at, if that is known.
    pub(super) fn start(&mut self, phase: usize, goal: Option<u64>) {
        let template = match goal {
            Some(_) => "{prefix} [{bar:20}] {percent:>3}%  {wide_msg}",
            None => "{prefix} {spinner:20} {elapsed:>5}  {wide_msg}",
        };
        let bar = self.lines.insert_before(&self.now, ProgressBar::new(goal.unwrap_or(0)));
        bar.set_style(style(template));
        bar.set_prefix(format!("{:>width$}", self.names[phase], width = self.width));
        self.phases[phase] = Some(bar);
        if let Mode::Plain { .. } = self.mode {
            eprintln!("{}: begins", self.names[phase]);
        }
    }

    /// How far a phase is, and what it says of itself.
    pub(super) fn set(&self, phase: usize, done: u64, message: String) {
        if let Some(bar) = &self.phases[phase] {
            bar.set_position(done);
            bar.set_message(message);
        }
    }

    /// A phase has ended; its line stays, and takes as many as it needs.
    pub(super) fn end(&mut self, phase: usize, message: &str) {
        if let Some(bar) = &self.phases[phase] {
            bar.set_style(style("{prefix} {msg}"));
            bar.finish_with_message(message.to_owned());
        }
        if let Mode::Plain { .. } = self.mode {
            eprintln!("{}: {message}", self.names[phase]);
        }
    }

    /// The present figures: on a terminal at once, else where the time of a line has come.
    pub(super) fn now(&mut self, at: Duration, now: &Sample) {
        self.now.set_message(told(now));
        if let Mode::Plain { last } = &mut self.mode
            && last.elapsed() >= PLAIN
        {
            *last = Instant::now();
            eprintln!("{:>6.0} s  {}", at.as_secs_f64(), told(now));
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.now.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are those above.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// The present figures in a line.
pub(super) fn told(now: &Sample) -> String {
    let mut words = vec![format!("{} bound", now.bound)];
    for (rate, what) in [
        (now.binds_per_s, "binds"),
        (now.messages_per_s, "messages"),
        (now.deliveries_per_s, "deliveries"),
        (now.errors_per_s, "errors"),
    ] {
        if rate > 0.0 {
            words.push(format!("{rate:.0} {what}/s"));
        }
    }
    let latencies = [(&now.delivery, "delivery"), (&now.broadcast, "broadcast"), (&now.connect, "connect")];
    if let Some((latency, what)) = latencies.into_iter().find(|(latency, _)| latency.count > 0) {
        words.push(format!("{what} p50 {:.1} p99 {:.1} ms", latency.p50_ms, latency.p99_ms));
    }
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Percentiles;

    #[test]
    fn only_what_happens_is_told() {
        let mut now = Sample { bound: 5, ..Sample::default() };
        assert_eq!(told(&now), "5 bound");
        now.messages_per_s = 99.6;
        now.delivery = Percentiles { count: 1, p50_ms: 1.0, p99_ms: 2.26, ..Percentiles::default() };
        assert_eq!(told(&now), "5 bound  100 messages/s  delivery p50 1.0 p99 2.3 ms");
    }
}
