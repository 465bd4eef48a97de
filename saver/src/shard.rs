//! What this saver owns, by the cluster's picture.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use cluster::{Cluster, NodeId, Picture, Role, rendezvous};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wire::id::AppId;

use crate::{archive::Archive, engine::Engine, engine::Shard, inbox::InboxStore};

/// The savers of the cluster, this one always among them.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    me: NodeId,
    all: Arc<ArcSwap<BTreeSet<NodeId>>>,
}

impl Members {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let me = cluster.me().id();
        Self { me, all: Arc::new(ArcSwap::from_pointee(members(&cluster.now(), me))) }
    }

    /// Whether rendezvous hashing gives the key to this saver, among all members, also those that are down.
    fn owns(&self, key: u64) -> bool {
        let all = self.all.load();
        all.len() == 1 || all.iter().max_by_key(|n| rendezvous::score(key, **n)) == Some(&self.me)
    }

    /// Follows the picture. When the savers are others than before, what is remembered of inboxes may be out of
    /// date, so all are forgotten and numbered in a new epoch.
    pub(crate) async fn follow<I: InboxStore, A: Archive>(
        self,
        cluster: Cluster,
        engine: Engine<I, A>,
        cancel: CancellationToken,
    ) {
        let follow = async {
            let mut picture = cluster.picture();
            while picture.changed().await.is_ok() {
                let now = members(&picture.borrow_and_update(), self.me);
                if now == **self.all.load() {
                    continue;
                }
                info!(savers = ?now, "the savers of the cluster have changed");
                self.all.store(Arc::new(now));
                if let Err(e) = engine.restart().await {
                    error!(error = %e, "cannot begin a new epoch");
                }
            }
        };
        cancel.run_until_cancelled(follow).await;
    }
}

fn members(picture: &Picture, me: NodeId) -> BTreeSet<NodeId> {
    picture.of(Role::Saver).map(|n| n.id).chain([me]).collect()
}

impl Shard for Members {
    fn owns_user(&self, app: AppId, uid: &str) -> bool {
        self.owns(rendezvous::user_key(app.0, uid))
    }

    fn owns_app(&self, app: AppId) -> bool {
        self.owns(rendezvous::app_key(app.0))
    }

    fn owns_word(&self, app: AppId, word: &str) -> bool {
        self.owns(rendezvous::word_key(app.0, word))
    }
}
