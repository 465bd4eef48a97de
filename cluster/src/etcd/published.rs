//! This node's entry in etcd: when it has to be written.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    time::{Duration, Instant},
};

use crate::{DiscoveryError, Me, NodeInfo};

/// How full a room is need not be known sooner; each change is an event for every node.
const LOAD_INTERVAL: Duration = Duration::from_secs(2);

/// This node's entry, as it is and as etcd has it.
pub(crate) struct Published {
    pub(crate) me: Arc<Me>,
    pub(crate) changes: watch::Receiver<NodeInfo>,
    /// What etcd has; `None` when that is not known.
    pub(crate) last: Option<NodeInfo>,
    pub(crate) at: Instant,
    pub(crate) joined: Option<oneshot::Sender<Result<(), DiscoveryError>>>,
}

impl Published {
    pub(crate) fn new(me: Arc<Me>, joined: oneshot::Sender<Result<(), DiscoveryError>>, number: u64) -> Self {
        me.set_joined(number);
        let changes = me.subscribe();
        Self { me, changes, last: None, at: Instant::now(), joined: Some(joined) }
    }

    /// When the entry has to be written; `None` when etcd has it as it is.
    pub(crate) fn due(&mut self) -> Option<Instant> {
        let now = self.changes.borrow();
        match &self.last {
            None => Some(self.at),
            Some(last) if *last == *now => None,
            Some(last) if NodeInfo { load: last.load, ..now.clone() } == *last => {
                Some(self.at + LOAD_INTERVAL)
            }
            Some(_) => Some(self.at),
        }
    }
}

/// Waits for a change of the entry that has not been seen.
pub(crate) async fn changed(published: &mut Option<Published>) {
    let Some(published) = published else { return std::future::pending().await };
    // It cannot close: the entry's owner is kept here.
    if published.changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigReport, Incarnation, Load, NodeId, NodeState, Role};

    fn published() -> Published {
        let me = Arc::new(Me::new(Role::Room, NodeId(1), Incarnation(1), "z", None));
        let (joined, _) = oneshot::channel();
        let mut published = Published::new(me, joined, 7);
        assert!(published.due().is_some_and(|due| due <= Instant::now()), "nothing is written yet");
        published.last = Some(published.me.info());
        assert!(published.due().is_none());
        published
    }

    /// A thousand rooms that told every connection would be a thousand events a second for every node.
    #[tokio::test(start_paused = true)]
    async fn load_waits_and_all_else_does_not() {
        let mut published = published();
        published.me.set_load(Load { connections: 1, capacity: 2 });
        assert_eq!(published.due(), Some(published.at + LOAD_INTERVAL));
        published.me.set_config(ConfigReport { revision: 3, ..ConfigReport::default() });
        assert_eq!(published.due(), Some(published.at));
        published.last = Some(published.me.info());
        published.me.set_state(NodeState::Draining);
        assert_eq!(published.due(), Some(published.at));
        // What was not answered has to be written again, whatever it was.
        published.last = None;
        assert_eq!(published.due(), Some(published.at));
    }
}
