//! Discovery for services that share one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Discovery, DiscoveryError, Me, NodeId, NodeInfo, Picture};

/// A picture in memory: nodes join and leave by calls. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    picture: watch::Sender<Arc<Picture>>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    nodes: BTreeMap<NodeId, (NodeInfo, CancellationToken)>,
}

impl Shared {
    /// Changes the nodes and publishes the new picture, as one step.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        state.revision += 1;
        let nodes = state.nodes.values().map(|(info, _)| info.clone()).collect();
        // Published under the lock, so that pictures come out in the order of their revisions.
        self.picture.send_replace(Arc::new(Picture::new(state.revision, nodes)));
        result
    }
}

impl Discovery for Embedded {
    fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.shared.picture.subscribe()
    }

    fn join(&self, me: Arc<Me>) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let mut changes = me.subscribe();
            let left = CancellationToken::new();
            let info = changes.borrow_and_update().clone();
            self.shared.change(|state| {
                if state.nodes.contains_key(&me.id()) {
                    return Err(DiscoveryError::Taken(me.id()));
                }
                state.nodes.insert(me.id(), (info, left.clone()));
                Ok(())
            })?;
            let shared = self.shared.clone();
            let id = me.id();
            // Ends when the node leaves, or is dropped with its `Me`.
            tokio::spawn(async move {
                let follow = async {
                    while changes.changed().await.is_ok() {
                        let info = changes.borrow_and_update().clone();
                        shared.change(|state| {
                            if let Some((entry, _)) = state.nodes.get_mut(&id) {
                                *entry = info;
                            }
                        });
                    }
                };
                left.run_until_cancelled(follow).await;
            });
            Ok(())
        })
    }

    fn leave<'a>(&'a self, me: &'a Me) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Some((_, left)) = self.shared.change(|state| state.nodes.remove(&me.id())) {
                left.cancel();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, NodeState, Role};

    #[tokio::test]
    async fn follows_joins_changes_and_leaves() {
        let discovery = Embedded::default();
        let mut picture = discovery.picture();
        let me = Arc::new(Me::new(Role::Room, NodeId(2), Incarnation(1), "z", None));
        discovery.join(me.clone()).await.unwrap();
        assert!(matches!(discovery.join(me.clone()).await, Err(DiscoveryError::Taken(NodeId(2)))));
        me.set_state(NodeState::Ready);
        let ready = picture.wait_for(|p| p.serving(Role::Room).count() == 1).await.unwrap().revision();
        discovery.leave(&me).await;
        let left = picture.wait_for(|p| p.nodes().is_empty()).await.unwrap().revision();
        assert!(left > ready);
    }
}
