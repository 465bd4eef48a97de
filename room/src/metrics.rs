//! What a room counts. The threads count plain numbers; once a second their differences are added here.

mod lines;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use wire::frame::{BindCode, CloseCode, UnboundReason};

use self::lines::LineMetrics;
use crate::{
    admission::{Admission, Reason},
    event_loop::{Counts, Thread},
    session::{Outcome, Tally},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

macro_rules! room_metrics {
    (
        $(#[doc = $doc:literal] $name:ident,)*
        ; threads $(#[doc = $tdoc:literal] $tname:ident,)*
    ) => {
        /// Counters of a room; clones share them.
        #[derive(Debug, Clone, Default)]
        pub struct RoomMetrics {
            $(#[doc = $doc] pub(crate) $name: Counter,)*
            $($tname: Counter,)*
            connections: Gauge,
            ghosts: Gauge,
            resumes: Family<OutcomeLabel, Counter>,
            bindings: Gauge,
            waiting_bytes: Gauge,
            closes: Family<CodeLabel, Counter>,
            bind_failures: Family<CodeLabel, Counter>,
            unbound: Family<CodeLabel, Counter>,
            refused: Family<ReasonLabel, Counter>,
            handshakes: Gauge,
            addresses: Gauge,
            lines: LineMetrics,
            seen: Arc<Mutex<Vec<Counts>>>,
        }

        impl RoomMetrics {
            /// Names the counters in `registry`, whose names begin with `longwire_room_`.
            pub fn register(&self, registry: &mut Registry) {
                $(registry.register(stringify!($name), $doc.trim(), self.$name.clone());)*
                $(registry.register(stringify!($tname), $tdoc.trim(), self.$tname.clone());)*
                self.lines.register(registry);
                registry.register("connections", "Connections now", self.connections.clone());
                registry.register("ghosts", "Broken connections that are kept for their devices now", self.ghosts.clone());
                registry.register("resumes", "Resume tokens presented, by what became of them", self.resumes.clone());
                registry.register("bindings", "Live bindings now", self.bindings.clone());
                registry.register("waiting_bytes", "Bytes that wait for sockets", self.waiting_bytes.clone());
                registry.register("closes", "Connections that the room closed, by code", self.closes.clone());
                registry.register("bind_failures", "Binds that failed, by code", self.bind_failures.clone());
                registry.register("unbound", "Bindings that were ended, by reason", self.unbound.clone());
                let refused = "Connections refused, or ended for what they sent or did not send in time, by reason";
                registry.register("refused", refused, self.refused.clone());
                registry.register("handshakes", "Handshakes in progress now", self.handshakes.clone());
                let addresses = "Addresses that are counted now, because one of their limits is set";
                registry.register("addresses", addresses, self.addresses.clone());
            }

            fn add(&self, before: &Tally, now: &Tally) {
                $(self.$tname.inc_by(now.$tname.saturating_sub(before.$tname));)*
            }
        }
    };
}

room_metrics! {
    /// Items of Deliver calls
    deliveries,
    /// Deliveries for sessions that are not here
    deliveries_not_here,
    /// Broadcast notices
    notices,
    /// Broadcast notices that found the queue full
    notices_shed,
    /// Loads that failed
    load_failures,
    /// Acks that could not be written down
    acks_lost,
    /// Broadcasts that a device has and that will not be counted, because it had too many of which nobody knew
    credits_lost_at_binds,
    /// Ends of which the register could not be told
    unbinds_lost,
    /// Sessions that were told again to a register
    renewals,
    /// Sessions that could not be told again to a register that had lost them
    renewals_lost,
    /// Sessions that a register held and the room did not
    stale_sessions,
    /// Binds refused before they began, because binds took too long
    binds_shed,
    /// State events handed over
    events,
    /// State events that were given up
    events_shed,
    /// Times that no file was left for those who came
    accept_pauses,
    /// Writes to sockets
    writes,
    /// Bytes written to sockets
    written_bytes,
    /// Connections closed because too much waited for them
    slow_shed,
    /// Messages that waited for a slow device and left because a newer one took their place
    replaced,
    /// Connections closed because too many frames without an end had come in
    partial_shed,
    ; threads
    /// Connections opened
    opened,
    /// Connections closed
    closed,
    /// Frames from devices
    frames_in,
    /// Binds completed
    bound,
    /// Bindings ended
    ended,
    /// Stored messages sent
    pushes,
    /// Transient messages sent
    transients,
    /// Transient messages dropped because the connection was over its bound
    transients_shed,
    /// Transient messages dropped because the device's connection had just broken
    transients_away,
    /// Broken connections that were kept for their devices
    ghosts_made,
    /// Of these, those whose devices did not come back in time
    ghosts_expired,
    /// Broken connections that were not kept because there were as many as may be
    ghosts_refused,
    /// Broadcasts sent, one for each binding
    broadcasts,
    /// Recall notices sent
    recalls,
    /// Times that a binding fell behind because its connection was over its bound
    behind,
    /// Loads asked for
    loads,
    /// Loads put off because the queue was full or one failed
    loads_parked,
    /// Ack frames
    acks,
    /// Upstream frames taken
    ups,
    /// Upstream frames told to come again
    ups_shed,
    /// Pages of broadcast logs asked for
    pages,
    /// Pages put off because the queue was full
    log_stalls,
    /// Broadcast cursors of live bindings handed over to be kept
    keeps,
    /// Broadcasts of bindings that will not be counted, because too many entries of a log were known to keep them all
    credits_lost,
    /// Broadcasts that expired or were recalled and may count as acked, because too many bindings were passed over
    skips_forgotten,
    /// Bindings told that their inbox has a new numbering
    rebased,
}

impl RoomMetrics {
    /// Adds what the threads have counted since the last time.
    pub fn collect(&self, threads: &[Thread]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize_with(threads.len(), Counts::default);
        let (mut connections, mut ghosts, mut bindings, mut waiting) = (0, 0, 0, 0);
        for (thread, before) in threads.iter().zip(seen.iter_mut()) {
            let status = thread.status();
            let counts = status.counts();
            self.add(&before.tally, &counts.tally);
            self.writes.inc_by(counts.writes - before.writes);
            self.written_bytes.inc_by(counts.written_bytes - before.written_bytes);
            self.slow_shed.inc_by(counts.slow_shed - before.slow_shed);
            self.replaced.inc_by(counts.replaced - before.replaced);
            self.partial_shed.inc_by(counts.partial_shed - before.partial_shed);
            self.accept_pauses.inc_by(counts.accept_pauses - before.accept_pauses);
            self.lines.add(&before.entries, &counts.entries);
            self.add_codes(&before.tally, &counts.tally);
            *before = counts;
            ghosts += status.ghosts.load(std::sync::atomic::Ordering::Relaxed);
            connections += status.connections.load(std::sync::atomic::Ordering::Relaxed);
            bindings += status.bindings.load(std::sync::atomic::Ordering::Relaxed);
            waiting += status.waiting_bytes.load(std::sync::atomic::Ordering::Relaxed);
        }
        self.connections.set(connections as i64);
        self.ghosts.set(ghosts as i64);
        self.bindings.set(bindings as i64);
        self.waiting_bytes.set(waiting as i64);
    }

    /// Notes who is at the door.
    pub fn note(&self, admission: &Admission) {
        self.handshakes.set(admission.handshakes() as i64);
        self.addresses.set(admission.addresses() as i64);
    }

    fn add_codes(&self, before: &Tally, now: &Tally) {
        let add = |family: &Family<CodeLabel, Counter>, code: &'static str, count: u64| {
            if count > 0 {
                family.get_or_create(&CodeLabel { code }).inc_by(count);
            }
        };
        for (index, count) in now.closes.iter().enumerate() {
            let code = CloseCode::try_from(index as i32).unwrap_or_default();
            add(&self.closes, code.label(), count - before.closes[index]);
        }
        for (index, count) in now.bind_failures.iter().enumerate() {
            let code = BindCode::try_from(index as i32).unwrap_or_default();
            add(&self.bind_failures, code.label(), count - before.bind_failures[index]);
        }
        for (reason, (count, before)) in Reason::ALL.iter().zip(now.refused.iter().zip(before.refused)) {
            if *count > before {
                let label = ReasonLabel { reason: reason.label() };
                self.refused.get_or_create(&label).inc_by(count - before);
            }
        }
        for (outcome, (count, before)) in Outcome::ALL.iter().zip(now.resumes.iter().zip(before.resumes)) {
            if *count > before {
                let label = OutcomeLabel { outcome: outcome.label() };
                self.resumes.get_or_create(&label).inc_by(count - before);
            }
        }
        for (index, count) in now.unbound.iter().enumerate() {
            let reason = UnboundReason::try_from(index as i32).unwrap_or_default();
            add(&self.unbound, reason.label(), count - before.unbound[index]);
        }
    }
}
