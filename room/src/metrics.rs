//! What a room counts. The threads count plain numbers; once a second their differences are added here.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use wire::frame::{BindCode, CloseCode, UnboundReason};

use crate::{
    event_loop::{Counts, Thread},
    session::Tally,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
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
            bindings: Gauge,
            waiting_bytes: Gauge,
            closes: Family<CodeLabel, Counter>,
            bind_failures: Family<CodeLabel, Counter>,
            unbound: Family<CodeLabel, Counter>,
            seen: Arc<Mutex<Vec<Counts>>>,
        }

        impl RoomMetrics {
            /// Names the counters in `registry`, whose names begin with `longwire_room_`.
            pub fn register(&self, registry: &mut Registry) {
                $(registry.register(stringify!($name), $doc.trim(), self.$name.clone());)*
                $(registry.register(stringify!($tname), $tdoc.trim(), self.$tname.clone());)*
                registry.register("connections", "Connections now", self.connections.clone());
                registry.register("bindings", "Live bindings now", self.bindings.clone());
                registry.register("waiting_bytes", "Bytes that wait for sockets", self.waiting_bytes.clone());
                registry.register("closes", "Connections that the room closed, by code", self.closes.clone());
                registry.register("bind_failures", "Binds that failed, by code", self.bind_failures.clone());
                registry.register("unbound", "Bindings that were ended, by reason", self.unbound.clone());
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
    /// Ends of which the register could not be told
    unbinds_lost,
    /// Sessions that were told again to a register
    renewals,
    /// Sessions that could not be told again to a register that had lost them
    renewals_lost,
    /// Sessions that a register held and the room did not
    stale_sessions,
    /// State events handed over
    events,
    /// State events that were given up
    events_shed,
    /// Connections refused because the room was full or draining
    refused,
    /// Times that accepting paused because no file was left
    accept_pauses,
    /// Writes to sockets
    writes,
    /// Bytes written to sockets
    written_bytes,
    /// Connections closed because too much waited for them
    slow_shed,
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
    /// Bindings told that their inbox has a new numbering
    rebased,
}

impl RoomMetrics {
    /// Adds what the threads have counted since the last time.
    pub fn collect(&self, threads: &[Thread]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize_with(threads.len(), Counts::default);
        let (mut connections, mut bindings, mut waiting) = (0, 0, 0);
        for (thread, before) in threads.iter().zip(seen.iter_mut()) {
            let status = thread.status();
            let counts = status.counts();
            self.add(&before.tally, &counts.tally);
            self.writes.inc_by(counts.writes - before.writes);
            self.written_bytes.inc_by(counts.written_bytes - before.written_bytes);
            self.slow_shed.inc_by(counts.slow_shed - before.slow_shed);
            self.partial_shed.inc_by(counts.partial_shed - before.partial_shed);
            self.accept_pauses.inc_by(counts.accept_pauses - before.accept_pauses);
            self.refused.inc_by(counts.refused - before.refused);
            self.add_codes(&before.tally, &counts.tally);
            *before = counts;
            connections += status.connections.load(std::sync::atomic::Ordering::Relaxed);
            bindings += status.bindings.load(std::sync::atomic::Ordering::Relaxed);
            waiting += status.waiting_bytes.load(std::sync::atomic::Ordering::Relaxed);
        }
        self.connections.set(connections as i64);
        self.bindings.set(bindings as i64);
        self.waiting_bytes.set(waiting as i64);
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
        for (index, count) in now.unbound.iter().enumerate() {
            let reason = UnboundReason::try_from(index as i32).unwrap_or_default();
            add(&self.unbound, reason.label(), count - before.unbound[index]);
        }
    }
}
