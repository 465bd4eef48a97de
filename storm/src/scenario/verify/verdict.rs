//! What the judge says.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::check::Books;
use crate::{
    fleet::Counts,
    judge::Findings,
    latency::Percentiles,
    procfs::Change,
    scenario::opened::{Opening, reasons, write_servers},
};

/// What the judge says of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Every message was in the end accepted or refused.
    pub settled: bool,
    /// Everything that was accepted arrived by the deadline.
    pub arrived: bool,
    /// Messages to users that were accepted.
    pub accepted: u64,
    /// Broadcasts that were accepted.
    pub broadcasts_accepted: u64,
    /// Messages that were refused for good, though nothing is wrong with them.
    pub refused: u64,
    /// Messages of which nobody knows whether they were stored.
    pub unsettled: u64,
    /// Repeats by callers.
    pub retries: u64,
    /// Answers that say that an earlier attempt had done the work.
    pub repeated: u64,
    /// The ledgers that were looked at, added up.
    pub books: Books,
    /// What the devices did.
    pub counts: Counts,
    /// From the first attempt to acceptance.
    pub accept: Percentiles,
    /// From the first attempt to the app on the device.
    pub delivery: Percentiles,
    /// The same for broadcasts, per delivery.
    pub broadcast: Percentiles,
    /// Why attempts failed, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Why connections failed or ended, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// How the devices came.
    pub opening: Opening,
    /// What is wrong.
    pub findings: Findings,
    /// Memory and processor time of the servers at the end.
    pub servers: Vec<Change>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.why_not().is_empty()
    }

    /// What stands against it.
    #[must_use]
    pub fn why_not(&self) -> Vec<String> {
        let f = &self.findings;
        let named = [
            (f.lost, "lost"),
            (f.doubled, "doubled"),
            (f.disordered, "out of order"),
            (f.stray, "came and were never accepted"),
            (f.misnumbered, "with a place that does not ascend"),
            (f.misdelivered, "at the wrong user"),
            (f.ledger, "ledgers are wrong"),
            (f.leftover, "inboxes are not empty"),
            (f.unkept, "came in too much disorder to be judged"),
            (self.refused, "refused for good"),
            (self.unsettled, "sent without ever being answered"),
            (self.counts.gone, "devices will not come back"),
        ];
        let mut all: Vec<_> =
            named.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if self.accepted + self.broadcasts_accepted == 0 {
            all.push("nothing was accepted".into());
        }
        if !self.arrived && f.lost == 0 {
            all.push("not everything arrived in time".into());
        }
        all
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        write!(f, "{}", self.opening)?;
        writeln!(
            f,
            "accepted {} messages ({} repeats by callers, {} found done) and {} broadcasts",
            self.accepted, self.retries, self.repeated, self.broadcasts_accepted
        )?;
        writeln!(
            f,
            "received {} messages and {} broadcasts at {} devices; {} connections cut on purpose, {} lost otherwise",
            c.messages, c.broadcasts, self.opening.devices, c.churned, c.disconnects
        )?;
        writeln!(f, "to acceptance:      {}", self.accept)?;
        writeln!(f, "to the app:         {}", self.delivery)?;
        writeln!(f, "broadcasts, each:   {}", self.broadcast)?;
        writeln!(f, "ledgers looked at:  {}", self.books)?;
        if !self.failures.is_empty() {
            writeln!(f, "failed attempts: {}", reasons(&self.failures))?;
        }
        if !self.reasons.is_empty() {
            writeln!(f, "ended connections: {}", reasons(&self.reasons))?;
        }
        write_servers(f, &self.servers)?;
        for violation in self.findings.first() {
            writeln!(f, "  {violation}")?;
        }
        let against = self.why_not();
        if against.is_empty() {
            writeln!(f, "VERDICT: ok, nothing lost, nothing doubled, nothing out of order")
        } else {
            writeln!(f, "VERDICT: FAILED: {}  (seed {})", against.join(", "), self.opening.seed)
        }
    }
}
