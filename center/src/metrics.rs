//! What a center counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabel {
    api: &'static str,
    code: String,
}

/// What became of one stored message on its way to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The room has it.
    Sent,
    /// The user is not online; it waits in the inbox.
    Offline,
    /// The user left the room meanwhile; its next bind loads the inbox.
    Moved,
    /// The register is being rebuilt; the sweeper delivers.
    Rebuilding,
    /// The stage was full; the sweeper delivers.
    Full,
    /// A register or room failed or was slow; the sweeper delivers.
    Failed,
    /// It was taken back before.
    Recalled,
}

/// The counters of one center. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    accepted: Family<KindLabel, Counter>,
    pub(crate) unicast: Counter,
    pub(crate) multicast: Counter,
    pub(crate) broadcast: Counter,
    pub(crate) transient: Counter,
    pub(crate) scheduled: Counter,
    pub(crate) scheduled_sent: Counter,
    pub(crate) scheduled_failed: Counter,
    pub(crate) scheduled_dropped: Counter,
    pub(crate) scheduled_late: Histogram,
    pub(crate) multicast_stopped: Counter,
    errors: Family<ErrorLabel, Counter>,
    delivery: Family<OutcomeLabel, Counter>,
    delivered: [Counter; 7],
    store_seconds: Histogram,
    pub(crate) key_lookups: Counter,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) http2_refused: Counter,
    pub(crate) notices_shed: Counter,
    pub(crate) job_slices: Counter,
    pub(crate) job_slices_refused: Counter,
    pub(crate) jobs_taken_over: Counter,
    pub(crate) jobs_put_off: Counter,
    pub(crate) job_failures: Counter,
    pub(crate) job_slowed: Counter,
    pub(crate) job_paused: Counter,
    pub(crate) job_parts_taken: Counter,
    pub(crate) job_parts_unkept: Counter,
    pub(crate) watchers_opened: Counter,
    pub(crate) watchers_closed: Counter,
    pub(crate) jobs_running: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let accepted = Family::<KindLabel, Counter>::default();
        let delivery = Family::<OutcomeLabel, Counter>::default();
        // Looked up once, so that the hot path takes no lock of a family.
        let of = |kind| accepted.get_or_create_owned(&KindLabel { kind });
        let outcomes = ["sent", "offline", "moved", "rebuilding", "full", "failed", "recalled"];
        Self {
            unicast: of("unicast"),
            multicast: of("multicast"),
            broadcast: of("broadcast"),
            transient: of("transient"),
            scheduled: Counter::default(),
            scheduled_sent: Counter::default(),
            scheduled_failed: Counter::default(),
            scheduled_dropped: Counter::default(),
            // 100 ms to half an hour: they are looked for twice a second, and all centers may have been away.
            scheduled_late: Histogram::new(exponential_buckets(0.1, 4.0, 8)),
            multicast_stopped: Counter::default(),
            delivered: outcomes.map(|outcome| delivery.get_or_create_owned(&OutcomeLabel { outcome })),
            accepted,
            errors: Family::default(),
            delivery,
            // 100 µs to 26 s: below no store is durable, above every caller has given up.
            store_seconds: Histogram::new(exponential_buckets(100e-6, 4.0, 10)),
            key_lookups: Counter::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            http2_refused: Counter::default(),
            notices_shed: Counter::default(),
            job_slices: Counter::default(),
            job_slices_refused: Counter::default(),
            jobs_taken_over: Counter::default(),
            jobs_put_off: Counter::default(),
            job_failures: Counter::default(),
            job_slowed: Counter::default(),
            job_paused: Counter::default(),
            job_parts_taken: Counter::default(),
            job_parts_unkept: Counter::default(),
            watchers_opened: Counter::default(),
            watchers_closed: Counter::default(),
            jobs_running: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Names the counters in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("push_accepted", "Pushes accepted, by kind", self.accepted.clone());
        registry.register(
            "multicast_stopped",
            "Streamed multicasts that broke off after a part of their users had been stored",
            self.multicast_stopped.clone(),
        );
        registry.register(
            "scheduled_users_sent",
            "Users that messages were sent to when their time had come",
            self.scheduled_sent.clone(),
        );
        registry.register(
            "scheduled_failures",
            "Parts of scheduled messages that could not be sent and are tried again",
            self.scheduled_failed.clone(),
        );
        registry.register(
            "scheduled_users_dropped",
            "Users of scheduled messages that never could have been sent",
            self.scheduled_dropped.clone(),
        );
        registry.register(
            "scheduled_late_seconds",
            "Time from when a scheduled message was due to when it was taken up",
            self.scheduled_late.clone(),
        );
        registry.register(
            "scheduled_users",
            "Users that messages were kept for until their time",
            self.scheduled.clone(),
        );
        registry.register(
            "request_errors",
            "Requests refused or failed, by API and word",
            self.errors.clone(),
        );
        registry.register(
            "delivery_messages",
            "Stored messages on their way to the rooms, by what became of them; full, failed and rebuilding are \
             left to the saver's sweeper",
            self.delivery.clone(),
        );
        registry.register(
            "push_store_seconds",
            "Time from the call of the saver to the durable answer",
            self.store_seconds.clone(),
        );
        registry.register("key_lookups", "API keys looked up at a saver", self.key_lookups.clone());
        registry.register("connections_opened", "Connections to the API", self.connections_opened.clone());
        registry.register(
            "connections_closed",
            "Connections to the API that ended",
            self.connections_closed.clone(),
        );
        registry.register(
            "http2_connections_refused",
            "Connections to the API that spoke HTTP/2 when there was no place for another such",
            self.http2_refused.clone(),
        );
        registry.register(
            "broadcast_notices_shed",
            "Broadcasts that the rooms were not told of at once because the stage was full; they poll the log",
            self.notices_shed.clone(),
        );
        self.register_jobs(registry);
    }

    fn register_jobs(&self, registry: &mut Registry) {
        let counters = [
            ("job_slices", "Slices of broadcast jobs released here", &self.job_slices),
            (
                "job_slices_refused",
                "Slices that the archive refused because the job stands elsewhere or does not run",
                &self.job_slices_refused,
            ),
            (
                "jobs_taken_over",
                "Broadcast jobs that began here in the middle: another center's before",
                &self.jobs_taken_over,
            ),
            (
                "jobs_put_off",
                "Rounds in which a broadcast job of this center had to wait because too many run",
                &self.jobs_put_off,
            ),
            (
                "job_failures",
                "Steps of broadcast jobs that the archive did not take; they are repeated",
                &self.job_failures,
            ),
            ("job_slowed", "Times that a broadcast changed its speed by itself", &self.job_slowed),
            ("job_paused", "Times that a broadcast paused itself", &self.job_paused),
            (
                "job_parts_taken",
                "Parts of broadcast jobs done here because the center that is responsible did not answer",
                &self.job_parts_taken,
            ),
            (
                "job_parts_unkept",
                "Times that what rooms have sent could not be kept in the archive at once",
                &self.job_parts_unkept,
            ),
            ("watchers_opened", "Streams of a broadcast's progress", &self.watchers_opened),
            ("watchers_closed", "Streams of a broadcast's progress that ended", &self.watchers_closed),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("jobs_running", "Broadcast jobs that this center runs", self.jobs_running.clone());
    }

    pub(crate) fn failed(&self, api: &'static str, code: &str) {
        self.errors.get_or_create(&ErrorLabel { api, code: code.to_owned() }).inc();
    }

    /// So many stored messages came to this end.
    pub(crate) fn delivered_many(&self, outcome: Delivered, count: usize) {
        self.delivered[outcome as usize].inc_by(count as u64);
    }

    pub(crate) fn delivered(&self, outcome: Delivered) {
        self.delivered[outcome as usize].inc();
    }

    /// How often a stored message came to this end.
    #[cfg(test)]
    pub(crate) fn delivered_count(&self, outcome: Delivered) -> u64 {
        self.delivered[outcome as usize].get()
    }

    pub(crate) fn stored_after(&self, elapsed: Duration) {
        self.store_seconds.observe(elapsed.as_secs_f64());
    }
}
