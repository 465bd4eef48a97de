//! Progress on a terminal; nothing where there is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that shows how far a phase is.
pub(crate) struct Progress(ProgressBar);

/// How often a running phase updates its line.
pub(crate) const REFRESH: Duration = Duration::from_millis(200);

impl Progress {
    /// A bar towards `goal`. Hidden if `quiet` or if standard error is no terminal.
    pub(crate) fn new(quiet: bool, phase: &'static str, goal: u64) -> Self {
        let bar = ProgressBar::new(goal);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len}  {msg}  {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(phase);
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64, message: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.set_position(done);
        self.0.set_message(message);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
