//! Keeps the picture up to date with what etcd tells.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{
    EtcdError, EtcdMetrics,
    keys::Keys,
    membership::Membership,
    watch::{Change, Entry, Follower},
};
use crate::{NodeId, NodeInfo, Picture, Role};

/// The picture, and what it is made of.
pub(crate) struct Nodes {
    state: Mutex<State>,
    picture: watch::Sender<Arc<Picture>>,
    metrics: EtcdMetrics,
}

struct State {
    membership: Membership,
    /// Since when etcd is not followed.
    away: Option<Instant>,
}

impl Nodes {
    pub(crate) fn new(lease: Duration, metrics: EtcdMetrics) -> Self {
        let state = State { membership: Membership::new(lease), away: Some(Instant::now()) };
        Self { state: Mutex::new(state), picture: watch::Sender::default(), metrics }
    }

    pub(crate) fn picture(&self) -> watch::Receiver<Arc<Picture>> {
        self.picture.subscribe()
    }

    /// What time brings: absences that are believed by now, and the picture's age.
    pub(crate) fn tick(&self) {
        let (due, age) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let age = state.away.map_or(0, |away| away.elapsed().as_secs());
            (state.membership.is_due(Instant::now()), age)
        };
        if due {
            self.change(|state| state.membership.expire(Instant::now()));
        }
        self.metrics.picture_age_seconds.set(age.try_into().unwrap_or(i64::MAX));
    }

    /// Changes the nodes and publishes the picture if that changed it, as one step.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let before = self.picture.borrow().clone();
        if let Some(picture) = state.membership.picture(&before) {
            self.metrics.picture_revision.set(picture.revision().try_into().unwrap_or(i64::MAX));
            self.metrics.picture_nodes.set(picture.nodes().len().try_into().unwrap_or(i64::MAX));
            // Published under the lock, so that pictures come out in the order of their revisions.
            self.picture.send_replace(Arc::new(picture));
        }
    }
}

/// Whom to tell that something is gone.
pub(crate) type Tell = Box<dyn Fn() + Send + Sync>;

/// Takes what etcd tells.
pub(crate) struct NodesFollower {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) keys: Keys,
    /// This node, and whom to tell when its own entry is gone.
    pub(crate) own: Option<((Role, NodeId), Tell)>,
}

impl NodesFollower {
    fn node(&self, entry: &Entry) -> Option<NodeInfo> {
        let (role, id) = self.keys.node_of(&entry.key)?;
        match serde_json::from_slice::<NodeInfo>(&entry.value) {
            Ok(info) if (info.role, info.id) == (role, id) => Some(info),
            Ok(info) => {
                warn!(key = entry.key, "says that it is {} {}: passed over", info.role, info.id);
                None
            }
            Err(error) => {
                warn!(key = entry.key, %error, "is no entry of a node: passed over");
                None
            }
        }
    }

    fn gone(&self, key: (Role, NodeId)) {
        if let Some((_, tell)) = self.own.as_ref().filter(|(own, _)| *own == key) {
            tell();
        }
    }
}

impl Follower for NodesFollower {
    fn back(&mut self, away: Duration, lost: bool) {
        if lost {
            warn!(
                "etcd does not have what it had; nodes stay in the picture until they could register again"
            );
        } else if away > Duration::from_secs(1) {
            info!(away_s = away.as_secs(), "etcd is followed again");
        }
        self.nodes.change(|state| {
            state.away = None;
            state.membership.back(Instant::now(), away, lost);
        });
    }

    fn list(&mut self, _revision: i64, entries: Vec<Entry>) {
        let all: Vec<_> = entries.iter().filter_map(|entry| self.node(entry)).collect();
        if let Some((own, _)) = &self.own
            && !all.iter().any(|info| (info.role, info.id) == *own)
        {
            self.gone(*own);
        }
        self.nodes.change(|state| state.membership.list(Instant::now(), all));
    }

    fn changes(&mut self, changes: Vec<Change>) {
        let news: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put(entry) => self.node(entry).map(Ok),
                Change::Deleted { key, .. } => self.keys.node_of(key).map(Err),
            })
            .collect();
        for gone in news.iter().filter_map(|new| new.as_ref().err()) {
            self.gone(*gone);
        }
        // One picture for all: what etcd changed in one step is seen in one.
        self.nodes.change(|state| {
            for new in news {
                match new {
                    Ok(info) => state.membership.put(info),
                    Err((role, id)) => state.membership.remove(Instant::now(), role, id),
                }
            }
        });
    }

    fn away(&mut self, reason: &EtcdError) {
        warn!(%reason, "etcd is not followed; the picture stays");
        let mut state = self.nodes.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.away.get_or_insert_with(Instant::now);
    }
}
