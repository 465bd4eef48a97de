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
    /// Those that work now, this one always among them.
    #[cfg(feature = "cluster-stores")]
    working: Arc<ArcSwap<BTreeSet<NodeId>>>,
}

/// Names the partitions of a shared store among the keys that are spread.
#[cfg(feature = "cluster-stores")]
const PARTITION: &str = "partition";
/// Names the parts of clean-up.
#[cfg(feature = "cluster-stores")]
const CLEANUP: &str = "cleanup";

impl Members {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let me = cluster.me().id();
        let now = cluster.now();
        Self {
            me,
            all: Arc::new(ArcSwap::from_pointee(members(&now, me))),
            #[cfg(feature = "cluster-stores")]
            working: Arc::new(ArcSwap::from_pointee(working(&now, me))),
        }
    }

    /// Whether a partition of the shared store is landed and swept here. Two may think so for a moment.
    #[cfg(feature = "cluster-stores")]
    pub(crate) fn lands(&self, partition: u32) -> bool {
        self.works_on(rendezvous::word_key(partition, PARTITION))
    }

    /// Whether a part of clean-up is done here.
    #[cfg(feature = "cluster-stores")]
    pub(crate) fn cleans(&self, part: crate::cleanup::Part) -> bool {
        self.works_on(rendezvous::word_key(part as u32, CLEANUP))
    }

    #[cfg(feature = "cluster-stores")]
    fn works_on(&self, key: u64) -> bool {
        let working = self.working.load();
        working.iter().max_by_key(|n| rendezvous::score(key, **n)) == Some(&self.me)
    }

    /// Follows the picture, for stores that all savers share: nothing is forgotten when it changes.
    #[cfg(feature = "cluster-stores")]
    pub(crate) async fn watch(self, cluster: Cluster, cancel: CancellationToken) {
        let follow = async {
            let mut picture = cluster.picture();
            while picture.changed().await.is_ok() {
                let picture = picture.borrow_and_update().clone();
                self.all.store(Arc::new(members(&picture, self.me)));
                self.working.store(Arc::new(working(&picture, self.me)));
            }
        };
        cancel.run_until_cancelled(follow).await;
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
            let mut lapses = cluster.lapses();
            loop {
                tokio::select! {
                    changed = picture.changed() => if changed.is_err() { return },
                    // Others may have had these users meanwhile.
                    Ok(()) = lapses.changed() => {
                        info!("this saver was out of the cluster");
                        self.begin_anew(&engine).await;
                        continue;
                    }
                }
                let now = members(&picture.borrow_and_update(), self.me);
                if now == **self.all.load() {
                    continue;
                }
                info!(savers = ?now, "the savers of the cluster have changed");
                self.all.store(Arc::new(now));
                self.begin_anew(&engine).await;
            }
        };
        cancel.run_until_cancelled(follow).await;
    }

    async fn begin_anew<I: InboxStore, A: Archive>(&self, engine: &Engine<I, A>) {
        if let Err(e) = engine.restart().await {
            error!(error = %e, "cannot begin a new epoch");
        }
    }
}

fn members(picture: &Picture, me: NodeId) -> BTreeSet<NodeId> {
    picture.of(Role::Saver).map(|n| n.id).chain([me]).collect()
}

#[cfg(feature = "cluster-stores")]
fn working(picture: &Picture, me: NodeId) -> BTreeSet<NodeId> {
    picture.serving(Role::Saver).map(|n| n.id).chain([me]).collect()
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
