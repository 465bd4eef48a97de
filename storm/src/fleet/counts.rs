//! What the devices of a worker have done, readable at any time from another thread.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Interval;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $merge:ident),+ $(,)?) => {
        /// What devices have done so far.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),+ }

        impl Counts {
            /// Both workers' devices together.
            #[must_use]
            pub fn merge(self, other: Self) -> Self {
                Self { $($name: merge::$merge(self.$name, other.$name)),+ }
            }

            fn less(self, before: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(before.$name)),+ }
            }
        }

        #[derive(Debug, Default)]
        struct Cells { $($name: AtomicU64),+ }

        impl Cells {
            fn store(&self, counts: &Counts) {
                $(self.$name.store(counts.$name, Relaxed);)+
            }

            fn load(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed)),+ }
            }
        }
    };
}

mod merge {
    pub(super) fn sum(a: u64, b: u64) -> u64 {
        a + b
    }

    pub(super) fn least(a: u64, b: u64) -> u64 {
        a.min(b)
    }
}

counts! {
    /// Devices whose binding stands at this moment.
    bound: sum,
    /// Devices that have been bound at least once.
    ever_bound: sum,
    /// TCP connections that were begun.
    attempts: sum,
    /// TCP connections that came about.
    connected: sum,
    /// Bindings that came about.
    binds: sum,
    /// Binds that were refused.
    bind_failures: sum,
    /// Connections that did not come about.
    connect_failures: sum,
    /// Connections that we cut on purpose.
    churned: sum,
    /// Connections that ended otherwise.
    disconnects: sum,
    /// Devices that will not come back by themselves (replaced, kicked, version refused).
    gone: sum,
    /// Numbered messages that the app got.
    messages: sum,
    /// Transient messages that the app got.
    transients: sum,
    /// Messages covered by an ack that left.
    acked: sum,
    /// Broadcasts that the app got, at all devices together.
    broadcasts: sum,
    /// Broadcasts of this run that every device of the worker has.
    broadcasts_complete: least,
    /// Messages and broadcasts that another run left behind.
    strangers: sum,
    /// Devices that do not read at this moment.
    slow: sum,
    /// Messages that the app got at devices that do not read, or did not for a while.
    slow_messages: sum,
    /// Broadcasts likewise; they are in `broadcasts` too.
    slow_broadcasts: sum,
    /// Connections with a whole TLS handshake.
    tls_full: sum,
    /// Connections that resumed TLS by a ticket.
    tls_resumed: sum,
    /// Connections that took up the bindings of the one before.
    resumed: sum,
    /// Connections that became a WebSocket.
    web_sockets: sum,
    /// Bytes read.
    bytes_in: sum,
    /// Bytes written.
    bytes_out: sum,
}

impl Counts {
    /// What has happened since; what is a state (bound, slow) is as it is now.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        Self { bound: self.bound, slow: self.slow, ..self.less(before) }
    }

    /// Whether somebody may wait for what has changed. Nobody waits for one more delivery of a broadcast, of which a hundred
    /// thousand come in a second, but for the last.
    #[must_use]
    pub fn is_waited_for(&self, before: &Self) -> bool {
        let Self { broadcasts, slow_broadcasts, .. } = *before;
        Self { broadcasts, slow_broadcasts, ..*self }.tells_more_than(before)
    }

    /// Whether more than bytes has changed: heartbeats alone are not worth telling soon.
    #[must_use]
    pub fn tells_more_than(&self, before: &Self) -> bool {
        Self { bytes_in: 0, bytes_out: 0, ..*self } != Self { bytes_in: 0, bytes_out: 0, ..*before }
    }
}

/// The counts of one worker, and what it measured lately: its loop writes them, everybody may read.
#[derive(Debug, Clone, Default)]
pub struct SharedCounts {
    cells: Arc<Cells>,
    changed: Arc<Notify>,
    /// Something that nobody waits for has changed.
    grown: Arc<Notify>,
    interval: Arc<Mutex<Option<Box<Interval>>>>,
}

impl SharedCounts {
    /// Counts that tell `changed` of every change.
    #[must_use]
    pub fn telling(changed: Arc<Notify>) -> Self {
        Self { changed, ..Self::default() }
    }

    /// Adds what was measured since the last time. Nobody need take it: what waits is one sum.
    pub(crate) fn add_interval(&self, interval: Interval) {
        let mut waiting = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) => waiting.merge(&interval),
            empty => *empty = Some(Box::new(interval)),
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// What was measured since this was asked last.
    #[must_use]
    pub fn take_interval(&self) -> Option<Box<Interval>> {
        self.interval.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Publishes new counts.
    pub fn store(&self, counts: &Counts) {
        self.cells.store(counts);
        self.changed.notify_one();
    }

    /// Publishes counts, and wakes nobody if they are as before. Of what nobody waits for only [`Self::grown`] tells.
    pub(crate) fn store_if_changed(&self, counts: &Counts) {
        let before = self.load();
        if counts.is_waited_for(&before) {
            self.store(counts);
        } else if before != *counts {
            self.cells.store(counts);
            self.grown.notify_one();
        }
    }

    /// Waits until something has changed that nobody waits for.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }

    /// The counts as last published.
    #[must_use]
    pub fn load(&self) -> Counts {
        self.cells.load()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn heartbeats_alone_are_no_news() {
        let before = Counts { bytes_in: 5, messages: 1, ..Counts::default() };
        assert!(!Counts { bytes_in: 9, bytes_out: 3, ..before }.tells_more_than(&before));
        assert!(Counts { messages: 2, ..before }.tells_more_than(&before));
    }

    /// Each delivery of a broadcast woke whoever waited for it to be complete.
    #[tokio::test]
    async fn deliveries_wake_nobody_but_the_last() {
        let changed = Arc::new(Notify::new());
        let shared = SharedCounts::telling(changed.clone());
        let some = Counts { broadcasts: 1, bytes_in: 300, ..Counts::default() };
        shared.store_if_changed(&some);
        assert!(changed.notified().now_or_never().is_none() && shared.grown().now_or_never().is_some());
        assert_eq!(shared.load(), some);
        shared.store_if_changed(&Counts { broadcasts: 2, broadcasts_complete: 1, ..some });
        assert!(changed.notified().now_or_never().is_some());
    }

    #[test]
    fn intervals_that_nobody_took_are_added_up() {
        let shared = SharedCounts::default();
        for ms in [1, 2] {
            let mut interval = Interval::default();
            interval.delivery.record(std::time::Duration::from_millis(ms));
            shared.add_interval(interval);
        }
        assert_eq!(shared.take_interval().unwrap().delivery.count(), 2);
        assert!(shared.take_interval().is_none());
    }

    #[test]
    fn a_broadcast_is_complete_when_all_workers_have_it() {
        let a = Counts { bound: 3, broadcasts_complete: 5, ..Counts::default() };
        let b = Counts { bound: 4, broadcasts_complete: 2, ..Counts::default() };
        let shared = SharedCounts::default();
        shared.store(&a.merge(b));
        assert_eq!((shared.load().bound, shared.load().broadcasts_complete), (7, 2));
    }
}
