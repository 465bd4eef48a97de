//! The gRPC service `Register`: thin translation, no logic.

use std::{sync::Arc, time::Instant};

use proto::internal::{self as rpc, Presence, register_server::Register};
use tonic::{Request, Response, Status};
use wire::limits::MAX_UID_BYTES;

use crate::{
    error::RegisterError, homes::RoomLife, kicks::Kicks, lives::Lives, metrics::RegisterMetrics,
    ownership::Ownership, shard::Bind, store::Store,
};

/// Largest request, bytes: a room tells some thousand sessions at a time.
pub(crate) const MAX_REQUEST: usize = 8 << 20;

pub(crate) struct RegisterRpc {
    pub(crate) store: Arc<Store>,
    pub(crate) ownership: Arc<Ownership>,
    pub(crate) kicks: Kicks,
    pub(crate) lives: Lives,
    pub(crate) metrics: RegisterMetrics,
}

/// All are checked before any is done, so that a bad batch leaves no trace.
fn check<'a>(uids: impl Iterator<Item = &'a str>) -> Result<(), RegisterError> {
    for (item, uid) in uids.enumerate() {
        if !(1..=MAX_UID_BYTES).contains(&uid.len()) {
            return Err(RegisterError::BadUid { item, bytes: uid.len() });
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl Register for RegisterRpc {
    async fn bind(&self, request: Request<rpc::BindRequest>) -> Result<Response<rpc::BindResponse>, Status> {
        let items = request.into_inner().items;
        check(items.iter().map(|item| item.uid.as_str()))?;
        let users = self.ownership.users();
        let bind = |item: &rpc::BindItem| {
            if !users.own(item.app, &item.uid) {
                self.metrics.not_owner.inc();
                return Ok(rpc::BindResult { fence: 0, not_owner: true });
            }
            let life = RoomLife { room: item.room, incarnation: item.incarnation };
            let bind = Bind { life, conn: item.conn, since_ms: item.since_ms };
            let bound = self.store.bind(item.app, &item.uid, bind)?;
            if let Some(displaced) = bound.displaced {
                self.kicks.kick(item.app, &item.uid, displaced);
            }
            if bound.new_life {
                self.lives.tell(life);
            }
            self.metrics.binds.inc();
            Ok(rpc::BindResult { fence: bound.fence, not_owner: false })
        };
        let results = items.iter().map(bind).collect::<Result<_, RegisterError>>()?;
        Ok(Response::new(rpc::BindResponse { results }))
    }

    async fn restore(
        &self,
        request: Request<rpc::RestoreRequest>,
    ) -> Result<Response<rpc::RestoreResponse>, Status> {
        let rpc::RestoreRequest { room, incarnation, sessions } = request.into_inner();
        check(sessions.iter().map(|item| item.uid.as_str()))?;
        // Before the first is entered: should all be forgotten meanwhile, the room is to tell them again.
        let round = self.ownership.round();
        let life = RoomLife { room, incarnation };
        let mut lost = Vec::new();
        for (place, item) in sessions.iter().enumerate() {
            let bind = Bind { life, conn: item.conn, since_ms: item.since_ms };
            let restored =
                self.store.restore(item.app, &item.uid, bind, item.fence).map_err(RegisterError::from)?;
            if restored.lost {
                self.metrics.replaced.inc();
                lost.push(place as u32);
            }
            if let Some(displaced) = restored.displaced {
                self.kicks.kick(item.app, &item.uid, displaced);
            }
            if restored.new_life {
                self.lives.tell(life);
            }
        }
        self.metrics.restored.inc_by(sessions.len() as u64);
        Ok(Response::new(rpc::RestoreResponse { round, lost }))
    }

    async fn unbind(
        &self,
        request: Request<rpc::UnbindRequest>,
    ) -> Result<Response<rpc::UnbindResponse>, Status> {
        let items = request.into_inner().items;
        check(items.iter().map(|item| item.uid.as_str()))?;
        let unbind = |item: &rpc::UnbindItem| {
            let removed = if item.fence == 0 {
                let life = RoomLife { room: item.room, incarnation: item.incarnation };
                let bind = Bind { life, conn: item.conn, since_ms: item.since_ms };
                self.store.take_back(item.app, &item.uid, bind)
            } else {
                self.store.unbind(item.app, &item.uid, item.fence)
            };
            let counter = if removed { &self.metrics.unbinds } else { &self.metrics.unbinds_stale };
            counter.inc();
            removed
        };
        Ok(Response::new(rpc::UnbindResponse { removed: items.iter().map(unbind).collect() }))
    }

    async fn look_up(
        &self,
        request: Request<rpc::LookUpRequest>,
    ) -> Result<Response<rpc::LookUpResponse>, Status> {
        let items = request.into_inner().items;
        check(items.iter().map(|item| item.uid.as_str()))?;
        let now = Instant::now();
        let (doubtful, rebuilding) = (self.ownership.is_doubtful(now), self.ownership.is_rebuilding(now));
        let users = self.ownership.users();
        let unknown = |item: &rpc::LookUpItem| {
            rebuilding || !users.own(item.app, &item.uid) || self.store.is_unsure(item.app, &item.uid, now)
        };
        let missing = |item: &rpc::LookUpItem| match doubtful || unknown(item) {
            true => Presence::Rebuilding,
            false => Presence::Offline,
        };
        let find = |item: &rpc::LookUpItem| match doubtful {
            true => None,
            false => self.store.look_up(item.app, &item.uid),
        };
        let look_up = |item: &rpc::LookUpItem| match find(item) {
            Some(found) => rpc::LookUpResult {
                presence: Presence::Online.into(),
                room: found.life.room,
                conn: found.conn,
                fence: found.fence,
                since_ms: found.since_ms,
            },
            None => rpc::LookUpResult { presence: missing(item).into(), ..rpc::LookUpResult::default() },
        };
        self.metrics.look_ups.inc_by(items.len() as u64);
        Ok(Response::new(rpc::LookUpResponse { results: items.iter().map(look_up).collect() }))
    }

    async fn settle(
        &self,
        request: Request<rpc::SettleRequest>,
    ) -> Result<Response<rpc::SettleResponse>, Status> {
        let again = self.ownership.settled(&request.into_inner());
        Ok(Response::new(rpc::SettleResponse { again }))
    }
}
