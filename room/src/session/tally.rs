//! What a thread counts. Plain numbers: whoever owns the thread publishes the differences.

use wire::frame::{BindCode, CloseCode, UnboundReason};

use crate::admission::Reason;

use super::resume::Outcome;

const CLOSE_CODES: usize = CloseCode::ALL.len();
const BIND_CODES: usize = 10;
const REASONS: usize = 5;

/// Counters since the thread began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are those of the metrics, which are documented there.
pub struct Tally {
    pub opened: u64,
    pub closed: u64,
    pub frames_in: u64,
    pub bound: u64,
    pub ended: u64,
    pub pushes: u64,
    pub transients: u64,
    pub transients_shed: u64,
    pub transients_away: u64,
    pub ghosts_made: u64,
    pub ghosts_expired: u64,
    pub ghosts_refused: u64,
    pub broadcasts: u64,
    pub recalls: u64,
    pub behind: u64,
    pub loads: u64,
    pub loads_parked: u64,
    pub acks: u64,
    pub ups: u64,
    pub ups_shed: u64,
    pub pages: u64,
    pub log_stalls: u64,
    pub keeps: u64,
    pub credits_lost: u64,
    pub skips_forgotten: u64,
    pub rebased: u64,
    pub closes: [u64; CLOSE_CODES],
    pub refused: [u64; Reason::COUNT],
    pub bind_failures: [u64; BIND_CODES],
    pub unbound: [u64; REASONS],
    pub resumes: [u64; Outcome::ALL.len()],
}

impl Tally {
    pub(crate) fn close(&mut self, code: CloseCode) {
        self.closes[code as usize % CLOSE_CODES] += 1;
    }

    pub(crate) fn refused(&mut self, reason: Reason) {
        self.refused[reason as usize] += 1;
    }

    pub(crate) fn bind_failed(&mut self, code: BindCode) {
        self.bind_failures[code as usize % BIND_CODES] += 1;
    }

    pub(crate) fn resume(&mut self, outcome: Outcome) {
        self.resumes[outcome as usize] += 1;
    }

    pub(crate) fn unbound(&mut self, reason: UnboundReason) {
        self.unbound[reason as usize % REASONS] += 1;
    }
}
