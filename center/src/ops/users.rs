//! Users: where they are, and ending their bindings.

use proto::{
    internal::{LookUpResult, Presence},
    v1,
};

use super::{Caller, Ops, fields};
use crate::{auth::Scope, error::Result};

impl Ops {
    /// Where a user is and what waits for it.
    pub async fn user(&self, caller: &Caller, request: v1::GetUserRequest) -> Result<v1::UserState> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let uid = fields::uid(&request.uid)?;
        let (place, depth) =
            tokio::join!(self.peers.registers.look_up(app.id, &uid), self.peers.savers.depth(app.id, &uid));
        let LookUpResult { presence, room, conn, since_ms, .. } = place?;
        let online = presence == i32::from(Presence::Online);
        Ok(v1::UserState {
            app: app.key.clone(),
            uid: request.uid,
            online,
            room,
            conn,
            since_ms,
            inbox_depth: depth?,
            rebuilding: presence == i32::from(Presence::Rebuilding),
        })
    }

    /// Ends the user's binding.
    pub async fn kick(&self, caller: &Caller, request: v1::KickRequest) -> Result<v1::KickResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let uid = fields::uid(&request.uid)?;
        let was_online = self.peers.coordinators.kick(app.id, &uid).await?;
        Ok(v1::KickResponse { was_online })
    }
}
