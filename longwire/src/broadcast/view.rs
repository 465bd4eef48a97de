//! A broadcast under way: a bar on a terminal, a plain line now and then where there is none, or JSON.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use proto::v1::BroadcastState;

use super::{speed::Speed, state};

/// Where there is no terminal, a line this often: enough for the log of a build, and not too much.
const PLAIN: Duration = Duration::from_secs(2);
/// The bar's length: it moves by tenths of a percent.
const FULL: u64 = 1_000;

/// Shows how a broadcast goes.
pub(super) struct View {
    begun: Instant,
    speed: Speed,
    mode: Mode,
}

enum Mode {
    Json,
    Plain { last: Option<(Instant, String)> },
    Terminal(ProgressBar),
}

impl View {
    pub(super) fn new(json: bool) -> Self {
        let mode = match (json, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Json,
            (false, false) => Mode::Plain { last: None },
            (false, true) => {
                let bar = ProgressBar::new(FULL);
                if let Ok(style) = ProgressStyle::with_template("[{bar:32}] {prefix}\n{wide_msg}") {
                    bar.set_style(style.progress_chars("=> "));
                }
                Mode::Terminal(bar)
            }
        };
        Self { begun: Instant::now(), speed: Speed::default(), mode }
    }

    /// What the center says of it now.
    pub(super) fn show(&mut self, now: &BroadcastState) {
        let speed = self.speed.of(now.sent, self.begun.elapsed());
        match &mut self.mode {
            Mode::Json => outln!("{}", state::json(now)),
            Mode::Terminal(bar) => {
                bar.set_position((now.released.clamp(0.0, 1.0) * FULL as f64) as u64);
                // Two lines, so that a narrow terminal shows both whole.
                bar.set_prefix(state::pace(now, speed));
                bar.set_message(state::counts(now));
            }
            Mode::Plain { last } => {
                let due = last.as_ref().is_none_or(|(at, word)| at.elapsed() >= PLAIN || *word != now.state);
                if due {
                    *last = Some((Instant::now(), now.state.clone()));
                    eprintln!("{}", state::line(now, speed));
                }
            }
        }
    }

    /// A word besides, which must not break the bar.
    pub(super) fn tell(&self, word: &str) {
        match &self.mode {
            Mode::Terminal(bar) => bar.suspend(|| eprintln!("longwire: {word}")),
            Mode::Json | Mode::Plain { .. } => eprintln!("longwire: {word}"),
        }
    }

    /// It has ended: the ledger. As JSON it was in the last state.
    pub(super) fn end(&self, last: &BroadcastState) {
        if let Mode::Terminal(bar) = &self.mode {
            bar.finish_and_clear();
        }
        if !matches!(self.mode, Mode::Json) {
            outln!("{}: {}", last.state, state::ledger(last));
        }
    }
}
