//! What the devices of a worker have done, readable at any time from another thread.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

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
    /// Bytes read.
    bytes_in: sum,
    /// Bytes written.
    bytes_out: sum,
}

/// The counts of one worker: its loop writes them, everybody may read.
#[derive(Debug, Clone, Default)]
pub struct SharedCounts {
    cells: Arc<Cells>,
    changed: Arc<Notify>,
}

impl SharedCounts {
    /// Counts that tell `changed` of every change.
    #[must_use]
    pub fn telling(changed: Arc<Notify>) -> Self {
        Self { cells: Arc::default(), changed }
    }

    /// Publishes new counts.
    pub fn store(&self, counts: &Counts) {
        self.cells.store(counts);
        self.changed.notify_one();
    }

    /// Publishes counts, and wakes nobody if they are as before.
    pub(crate) fn store_if_changed(&self, counts: &Counts) {
        if self.load() != *counts {
            self.store(counts);
        }
    }

    /// The counts as last published.
    #[must_use]
    pub fn load(&self) -> Counts {
        self.cells.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_is_complete_when_all_workers_have_it() {
        let a = Counts { bound: 3, broadcasts_complete: 5, ..Counts::default() };
        let b = Counts { bound: 4, broadcasts_complete: 2, ..Counts::default() };
        let shared = SharedCounts::default();
        shared.store(&a.merge(b));
        assert_eq!((shared.load().bound, shared.load().broadcasts_complete), (7, 2));
    }
}
