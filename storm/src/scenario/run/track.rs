//! What the runner remembers of each phase.

use std::time::Duration;

use super::work::{Outcome, Part};
use crate::{
    fleet::{Counts, Interval},
    latency::Percentiles,
    report::{Figures, PhaseReport},
    scenario::script::Phase,
};

/// One phase's course.
#[derive(Default)]
pub(super) struct Track {
    pub(super) part: Part,
    pub(super) begin: Option<Mark>,
    pub(super) end: Option<Mark>,
    /// Measured by the devices while it went on.
    measured: Interval,
    pub(super) outcome: Outcome,
    /// Of a ramp.
    pub(super) ramp: Option<RampGoal>,
}

/// A moment.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: Duration,
    pub(super) counts: Counts,
}

/// Where a ramp goes.
#[derive(Clone, Copy)]
pub(super) struct RampGoal {
    pub(super) devices: u32,
    pub(super) deadline: Duration,
}

impl Track {
    pub(super) fn is_running(&self) -> bool {
        self.begin.is_some() && self.end.is_none()
    }

    /// What devices measured since `since`: it is of every phase that went on then. Two phases that follow each other
    /// share the interval in which one ended and the other began.
    pub(super) fn note(&mut self, since: Duration, measured: &Interval) {
        let ended_before = self.end.is_some_and(|end| end.at <= since);
        if self.begin.is_some() && !ended_before {
            self.measured.merge(measured);
        }
    }

    pub(super) fn report(&self, phase: &Phase, now: &Mark) -> PhaseReport {
        let end = self.end.as_ref().unwrap_or(now);
        let (span_s, counts) = match &self.begin {
            Some(begin) => {
                let span = end.at.saturating_sub(begin.at).as_secs_f64();
                (span, end.counts.since(&begin.counts))
            }
            None => (0.0, Counts::default()),
        };
        let mut figures = Figures::new(span_s, self.part.sent(), counts, &self.measured);
        // An interval that is shared with a neighbour has latencies of what only that one did.
        if counts.binds == 0 {
            figures.connect = Percentiles::default();
        }
        if counts.messages + counts.transients == 0 {
            (figures.delivery, figures.acked) = (Percentiles::default(), Percentiles::default());
        }
        if counts.broadcasts == 0 {
            figures.broadcast = Percentiles::default();
        }
        figures.accept = self.outcome.accept.percentiles();
        PhaseReport {
            name: phase.name.clone(),
            kind: phase.kind.word(),
            start_s: self.begin.map(|begin| begin.at.as_secs_f64()),
            end_s: self.begin.map(|_| end.at.as_secs_f64()),
            figures,
            note: self.outcome.note.clone(),
            failed: self.outcome.failed.clone(),
        }
    }
}
