//! What is known of this node's registration, and who watches that it is not over while nobody looks.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant, MissedTickBehavior, interval},
};

use super::{Holder, link::Link, nodes::Nodes};
use crate::NodeId;

/// How often the watchman looks whether the process stood still, and lets time pass for the picture.
const WATCHMAN_INTERVAL: Duration = Duration::from_millis(250);

/// The node's id belongs to somebody else now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Another node has it: this process has to begin again as another one.
    Taken {
        /// The id.
        id: NodeId,
        /// Who has it.
        by: Holder,
    },
    /// A process with a copy of this one's data folder has it. Beginning again would only take it back, and so for ever.
    Twin {
        /// The id.
        id: NodeId,
        /// The other process.
        by: Holder,
    },
}

/// What the keeper and the watchman know of the lease.
#[derive(Debug)]
struct Hold {
    /// When what was confirmed last had been asked for.
    confirmed: Instant,
    /// The lapse of this registration has been counted.
    lapsed: bool,
}

/// What several tasks share about this node's registration.
pub(crate) struct Registration {
    hold: Mutex<Hold>,
    lapses: watch::Sender<u64>,
    /// Something is wrong with the registration: the keeper must look.
    pub(crate) doubt: Notify,
    pub(crate) lost: watch::Sender<Option<Lost>>,
}

impl Registration {
    /// A registration whose lease was asked for at `asked`.
    pub(crate) fn new(asked: Instant) -> Self {
        Self {
            hold: Mutex::new(Hold { confirmed: asked, lapsed: false }),
            lapses: watch::Sender::new(0),
            doubt: Notify::new(),
            lost: watch::Sender::new(None),
        }
    }

    pub(crate) fn lapses(&self) -> watch::Receiver<u64> {
        self.lapses.subscribe()
    }

    /// The lease was alive at `asked`.
    pub(crate) fn confirm(&self, asked: Instant) {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        hold.confirmed = hold.confirmed.max(asked);
    }

    pub(crate) fn renew(&self, asked: Instant) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = Hold { confirmed: asked, lapsed: false };
    }

    pub(crate) fn since_confirmed(&self) -> Duration {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).confirmed.elapsed()
    }

    /// Counts the lapse of the present registration, once.
    pub(crate) fn lapse(&self, link: &Link) {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if !hold.lapsed {
            hold.lapsed = true;
            link.metrics().lapses.inc();
            self.lapses.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn has_lapsed(&self) -> bool {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).lapsed
    }
}

/// Notices that the process stood still (stopped, or its machine asleep) for so long that its lease is over, and counts
/// the lapse before anybody acts on what was true then. While etcd is away time passes too, but watched: then nothing
/// has lapsed until etcd says so.
pub(crate) async fn watchman(link: Link, nodes: Arc<Nodes>, registration: Arc<Registration>) {
    let lease = link.options().lease;
    let mut ticks = interval(WATCHMAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        if now - last >= lease / 2 && registration.since_confirmed() >= lease {
            registration.lapse(&link);
            registration.doubt.notify_one();
        }
        last = now;
        nodes.tick();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::etcd::{EtcdMetrics, EtcdOptions};

    /// A register that woke after 20 s went on answering with sessions that others had taken over by then; and one that
    /// only could not reach etcd must not forget any.
    #[tokio::test(start_paused = true)]
    async fn standing_still_is_a_lapse_and_waiting_for_etcd_is_none() {
        let options = EtcdOptions::new(vec!["http://127.0.0.1:1".to_owned()], "test");
        let lease = options.lease;
        let link = Link::new(options, EtcdMetrics::default());
        let nodes = Arc::new(Nodes::new(lease, EtcdMetrics::default()));
        let registration = Arc::new(Registration::new(Instant::now()));
        let lapses = registration.lapses();
        let watching = tokio::spawn(watchman(link, nodes, registration.clone()));
        // An hour without etcd.
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(*lapses.borrow(), 0);
        // A pause that the lease survives.
        registration.confirm(Instant::now());
        tokio::time::advance(lease - Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert_eq!(*lapses.borrow(), 0);
        // One that it does not; counted once, and the keeper is told.
        registration.confirm(Instant::now());
        tokio::time::advance(4 * lease).await;
        registration.doubt.notified().await;
        assert_eq!(*lapses.borrow(), 1);
        tokio::time::advance(4 * lease).await;
        registration.doubt.notified().await;
        assert_eq!(*lapses.borrow(), 1);
        watching.abort();
    }
}
