//! Finds an overdue inbox's user and tells its room.

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
