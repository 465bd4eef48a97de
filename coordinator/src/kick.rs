//! Kicks: look the session up, then end it in its room.

use std::time::Duration;

use cluster::{NodeId, Role};
use flow::{Attempt, Backoff, GaveUp};
use peers::{PeerError, Registers, Rooms};
use proto::internal::{KickItem, KickReason, KickUser, LookUpResult, Presence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A register that was just started knows all sessions again within seconds; whoever asked waits no longer.
const REBUILD_PATIENCE: Duration = Duration::from_secs(3);

/// Ends sessions.
#[derive(Clone)]
pub(crate) struct Kicker {
    pub(crate) registers: Registers,
    pub(crate) rooms: Rooms,
    pub(crate) cancel: CancellationToken,
}

impl Kicker {
    /// Ends the user's session; whether there was one. A session that begins meanwhile has a greater fence and stays.
    pub(crate) async fn kick(&self, user: &KickUser) -> Result<bool, PeerError> {
        let found = self.look_up(user).await?;
        if found.presence() != Presence::Online {
            return Ok(false);
        }
        let item = KickItem {
            app: user.app,
            uid: user.uid.clone(),
            fence: found.fence,
            reason: KickReason::Kicked.into(),
        };
        match self.rooms.kick(NodeId(found.room), item).await {
            Ok(kicked) => Ok(kicked),
            // The room is gone, and the session with it.
            Err(PeerError::NoNode(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn look_up(&self, user: &KickUser) -> Result<LookUpResult, PeerError> {
        let rebuilding = || PeerError::Unavailable {
            role: Role::Register,
            node: None,
            detail: "its sessions are being told again".into(),
        };
        let look = |_| async {
            match self.registers.look_up(user.app, &user.uid).await {
                Ok(found) if found.presence() == Presence::Rebuilding => Err(Attempt::Again(rebuilding())),
                Ok(found) => Ok(found),
                // It has been tried again already.
                Err(error) => Err(Attempt::Stop(error)),
            }
        };
        let deadline = Instant::now() + REBUILD_PATIENCE;
        flow::retry(Backoff::default(), deadline, &self.cancel, look).await.map_err(|gave_up| match gave_up {
            GaveUp::Cancelled(_) => PeerError::ShuttingDown,
            other => other.into_last().unwrap_or_else(rebuilding),
        })
    }
}
