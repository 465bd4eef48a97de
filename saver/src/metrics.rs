//! What the saver counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    archive::{Group, Landing},
    error::Refused,
    model::{Staged, State},
};

/// Why an append was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Code {
    code: &'static str,
}

/// Why an epoch of the inboxes began.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

/// Epochs of the inboxes that began, by reason.
pub type EpochsBegun = Family<Reason, Counter>;

/// The saver's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Deliveries made durable.
    pub messages_appended: Counter,
    /// Oldest messages that made room in a full inbox.
    pub messages_pushed_out: Counter,
    /// Deliveries with a final state written, acks above all.
    pub messages_finished: Counter,
    /// Messages read from inboxes.
    pub messages_loaded: Counter,
    /// Writes of offsets from UTC that found no room in the writer's queue; the next bind tries again.
    pub offsets_skipped: Counter,
    /// Payloads that had to be read from the archive.
    pub payloads_read: Counter,
    /// Pages of broadcast logs loaded for rooms.
    pub log_pages: Counter,
    /// Users counted for broadcasts, by their cursors: what was told, repeats included.
    pub broadcast_credits: Counter,
    /// Appends refused, by code.
    pub appends_refused: Family<Code, Counter>,
    /// Inboxes rebuilt from the archive.
    pub inboxes_rebuilt: Counter,
    /// Inboxes that found no room in the store.
    pub inboxes_refused: Counter,
    /// Idle inboxes let go.
    pub inboxes_evicted: Counter,
    /// Epochs that this saver began.
    pub epochs_begun: EpochsBegun,
    /// Inboxes, messages and payload bytes held.
    pub inboxes: Gauge,
    /// Messages held.
    pub messages: Gauge,
    /// Payload bytes held.
    pub payload_bytes: Gauge,
    /// Deliveries that wait for the writer.
    pub queue_messages: Gauge,
    /// Final states that wait for the archive.
    pub backlog_messages: Gauge,
    /// Transactions that failed.
    pub commits_failed: Counter,
    /// Time of transactions.
    pub commit_seconds: Histogram,
    /// Rows of transactions.
    pub commit_rows: Histogram,
    /// Inboxes looked up by the sweeper, and those it nudged.
    pub sweeps_looked_up: Counter,
    /// Inboxes nudged.
    pub sweeps_nudged: Counter,
    /// Deliveries expired by the walk over the archive.
    pub cleanup_expired: Counter,
    /// Rows forgotten.
    pub cleanup_forgotten: Counter,
    /// Lines of the shared store's journals that this saver is to land, and their bytes.
    pub journal_messages: Gauge,
    /// Bytes of those.
    pub journal_bytes: Gauge,
    /// Age of the oldest of those.
    pub landing_lag_ms: Gauge,
    /// Redis can be used: 1 or 0.
    pub redis_up: Gauge,
    /// The archive was written without an error when it was last: 1 or 0.
    pub archive_up: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // 100 µs to 13 s: an SSD syncs within one, a starved disk takes the other.
        let seconds = prometheus_client::metrics::histogram::exponential_buckets(0.0001, 2.0, 18);
        let rows = prometheus_client::metrics::histogram::exponential_buckets(1.0, 4.0, 8);
        Self {
            messages_appended: Counter::default(),
            messages_pushed_out: Counter::default(),
            messages_finished: Counter::default(),
            messages_loaded: Counter::default(),
            offsets_skipped: Counter::default(),
            payloads_read: Counter::default(),
            log_pages: Counter::default(),
            broadcast_credits: Counter::default(),
            appends_refused: Family::default(),
            inboxes_rebuilt: Counter::default(),
            inboxes_refused: Counter::default(),
            inboxes_evicted: Counter::default(),
            epochs_begun: Family::default(),
            inboxes: Gauge::default(),
            messages: Gauge::default(),
            payload_bytes: Gauge::default(),
            queue_messages: Gauge::default(),
            backlog_messages: Gauge::default(),
            commits_failed: Counter::default(),
            commit_seconds: Histogram::new(seconds),
            commit_rows: Histogram::new(rows),
            sweeps_looked_up: Counter::default(),
            sweeps_nudged: Counter::default(),
            cleanup_expired: Counter::default(),
            cleanup_forgotten: Counter::default(),
            journal_messages: Gauge::default(),
            journal_bytes: Gauge::default(),
            landing_lag_ms: Gauge::default(),
            redis_up: Gauge::default(),
            archive_up: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, r: &mut Registry) {
        let counters: [(&str, &str, &Counter); 16] = [
            ("messages_appended", "Deliveries made durable", &self.messages_appended),
            ("messages_pushed_out", "Oldest messages that made room", &self.messages_pushed_out),
            ("messages_finished", "Deliveries given their final state", &self.messages_finished),
            ("messages_loaded", "Messages read from inboxes", &self.messages_loaded),
            ("offsets_skipped", "Writes of offsets from UTC that found no room", &self.offsets_skipped),
            ("payloads_read", "Payloads read from the archive", &self.payloads_read),
            ("log_pages", "Pages of broadcast logs loaded for rooms", &self.log_pages),
            (
                "broadcast_credits",
                "Ends of broadcasts for users written, repeats included",
                &self.broadcast_credits,
            ),
            ("inboxes_rebuilt", "Inboxes rebuilt from the archive", &self.inboxes_rebuilt),
            ("inboxes_refused", "Inboxes that found no room", &self.inboxes_refused),
            ("inboxes_evicted", "Idle inboxes let go", &self.inboxes_evicted),
            ("commits_failed", "Transactions that failed", &self.commits_failed),
            ("sweeps_looked_up", "Overdue inboxes looked up", &self.sweeps_looked_up),
            ("sweeps_nudged", "Overdue inboxes nudged", &self.sweeps_nudged),
            ("cleanup_expired", "Deliveries expired by clean-up", &self.cleanup_expired),
            ("cleanup_forgotten", "Rows forgotten by clean-up", &self.cleanup_forgotten),
        ];
        for (name, help, counter) in counters {
            r.register(name, help, counter.clone());
        }
        let gauges: [(&str, &str, &Gauge); 10] = [
            ("inboxes", "Inboxes held", &self.inboxes),
            ("messages", "Messages held", &self.messages),
            ("payload_bytes", "Payload bytes held", &self.payload_bytes),
            ("queue_messages", "Deliveries that wait for the writer", &self.queue_messages),
            ("journal_messages", "Journal lines that are to land", &self.journal_messages),
            ("journal_bytes", "Bytes of journal lines that are to land", &self.journal_bytes),
            ("landing_lag_milliseconds", "Age of the oldest journal line", &self.landing_lag_ms),
            ("redis_up", "Whether Redis can be used", &self.redis_up),
            ("archive_up", "Whether the archive works", &self.archive_up),
            ("backlog_messages", "Final states that wait for the archive", &self.backlog_messages),
        ];
        for (name, help, gauge) in gauges {
            r.register(name, help, gauge.clone());
        }
        r.register("epochs_begun", "Epochs of the inboxes that began here", self.epochs_begun.clone());
        r.register("appends_refused", "Appends refused", self.appends_refused.clone());
        r.register("commit_seconds", "Time of transactions", self.commit_seconds.clone());
        r.register("commit_rows", "Rows of transactions", self.commit_rows.clone());
    }

    pub(crate) fn refused(&self, refused: &Refused, appends: usize) {
        self.appends_refused.get_or_create(&Code { code: refused.code() }).inc_by(appends as u64);
    }

    pub(crate) fn epoch_begun(&self, reason: &'static str) {
        count_epoch(&self.epochs_begun, reason);
    }

    pub(crate) fn appended(&self, staged: &[Staged]) {
        self.messages_appended.inc_by(staged.len() as u64);
        let left = |why| staged.iter().flat_map(|s| &s.pushed_out).filter(|(_, s)| *s == why).count() as u64;
        self.messages_pushed_out.inc_by(left(State::InboxFull));
    }

    pub(crate) fn landed(&self, took: Duration, landing: &Landing, done: bool) {
        if !done {
            self.commits_failed.inc();
            return;
        }
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_rows.observe((landing.deliveries.len() + landing.finished.len()) as f64);
        let finished = landing.deliveries.iter().filter(|(_, state)| *state != State::Stored);
        self.messages_finished.inc_by((finished.count() + landing.finished.len()) as u64);
    }

    pub(crate) fn committed(&self, took: Duration, group: &Group, done: bool) {
        if !done {
            self.commits_failed.inc();
            return;
        }
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_rows.observe((group.deliveries.len() + group.finished.len()) as f64);
        self.messages_finished.inc_by(group.finished.len() as u64);
    }
}

pub(crate) fn count_epoch(epochs: &EpochsBegun, reason: &'static str) {
    epochs.get_or_create(&Reason { reason }).inc();
}

/// What a gauge shows.
pub(crate) fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
