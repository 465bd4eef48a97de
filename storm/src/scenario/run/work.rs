//! The work of phases that runs beside the runner, and what all of it shares.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::totals::Totals;
use crate::{
    fleet::{FleetSpec, Reader},
    floor::FloorReport,
    latency::Latencies,
    load::Centers,
    report::Sent,
};

/// What every phase may use.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) spec: Arc<FleetSpec>,
    pub(super) counts: Reader,
    pub(super) centers: Option<Arc<Centers>>,
    pub(super) totals: Arc<Totals>,
    /// Programs of the servers, for phases that signal one.
    pub(super) programs: Vec<String>,
}

/// What one phase holds while it runs.
#[derive(Clone, Default)]
pub(super) struct Part {
    /// Cancelled: end soon.
    pub(super) cancel: CancellationToken,
    sent: Arc<Cells>,
}

#[derive(Default)]
struct Cells {
    pushes: AtomicU64,
    accepted: AtomicU64,
    offline: AtomicU64,
    failed: AtomicU64,
    broadcasts: AtomicU64,
    note: Mutex<String>,
}

/// What a phase's work leaves.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// From the intended sending to acceptance.
    pub(super) accept: Latencies,
    /// What the phase has to say of itself.
    pub(super) note: String,
    /// The floor, if that was measured.
    pub(super) floor: Option<FloorReport>,
    /// Why the phase failed, if it did. The run goes on, and its verdict says so.
    pub(super) failed: Option<String>,
}

impl Ground {
    pub(super) fn centers(&self) -> anyhow::Result<&Arc<Centers>> {
        self.centers.as_ref().context("an API key is needed: api.key_file, LONGWIRE_KEY or --set api.key=…")
    }
}

impl Part {
    pub(super) fn sent(&self) -> Sent {
        let cells = &self.sent;
        Sent {
            pushes: cells.pushes.load(Relaxed),
            accepted: cells.accepted.load(Relaxed),
            offline: cells.offline.load(Relaxed),
            failed: cells.failed.load(Relaxed),
            broadcasts: cells.broadcasts.load(Relaxed),
        }
    }

    pub(super) fn tell(&self, sent: Sent) {
        let cells = &self.sent;
        cells.pushes.store(sent.pushes, Relaxed);
        cells.accepted.store(sent.accepted, Relaxed);
        cells.offline.store(sent.offline, Relaxed);
        cells.failed.store(sent.failed, Relaxed);
        cells.broadcasts.store(sent.broadcasts, Relaxed);
    }

    /// What the phase is at, for its line of progress.
    pub(super) fn note(&self) -> String {
        self.sent.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn say(&self, note: impl Into<String>) {
        *self.sent.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
    }
}
