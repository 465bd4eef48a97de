//! Finds an overdue inbox's user and tells its room.

use std::collections::BTreeMap;

use cluster::{Cluster, NodeId};
use peers::{Limits, Registers, Rooms};
use proto::internal::{DeliverItem, Delivery, LookUpResult, Presence};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    inbox::Waiting,
    model::InboxKey,
    sweep::{Nudge, Nudged},
};

/// Nudges through the registers and rooms of the cluster.
pub(crate) struct PeerNudge {
    registers: Registers,
    rooms: Rooms,
}

impl PeerNudge {
    pub(crate) fn new(cluster: &Cluster, cancel: &CancellationToken) -> Self {
        let limits = Limits::default();
        Self {
            registers: Registers::new(cluster, limits, cancel.clone()),
            rooms: Rooms::new(cluster, limits, cancel.clone()),
        }
    }

    async fn tell(&self, key: &InboxKey, waiting: Waiting, at: &LookUpResult) -> Nudged {
        let item = DeliverItem {
            app: key.app().0,
            uid: key.uid().as_str().to_owned(),
            fence: at.fence,
            epoch: waiting.reaches.epoch.0,
            seq: waiting.reaches.seq.0,
            id: waiting.id.0,
            payload: None,
            accepted_ms: 0,
            ..Default::default()
        };
        match self.rooms.nudge(NodeId(at.room), item).await {
            Ok(Delivery::Sent) => Nudged::Online,
            Ok(_) => Nudged::Unknown,
            Err(e) => {
                debug!(error = %e, "a room could not be nudged");
                Nudged::Unknown
            }
        }
    }
}

impl Nudge for PeerNudge {
    async fn away(&self, keys: &[InboxKey]) -> Vec<bool> {
        let mut apps: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (n, key) in keys.iter().enumerate() {
            apps.entry(key.app().0).or_default().push(n);
        }
        let mut away = vec![false; keys.len()];
        for (app, users) in apps {
            let uids: Vec<&str> = users.iter().map(|n| keys[*n].uid().as_str()).collect();
            for (n, place) in users.iter().zip(self.registers.look_up_list(app, &uids).await) {
                away[*n] = place.is_ok_and(|place| place.presence() == Presence::Offline);
            }
        }
        away
    }

    async fn nudge(&self, key: &InboxKey, waiting: Waiting) -> Nudged {
        match self.registers.look_up(key.app(), key.uid()).await {
            Ok(at) => match at.presence() {
                Presence::Online => self.tell(key, waiting, &at).await,
                Presence::Offline => Nudged::Offline,
                Presence::Rebuilding => Nudged::Unknown,
            },
            Err(e) => {
                debug!(error = %e, "an overdue inbox's user could not be looked up");
                Nudged::Unknown
            }
        }
    }
}
