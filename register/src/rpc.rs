//! The gRPC service `Register`: thin translation, no logic.

use std::{sync::Arc, time::Instant};

use proto::internal::{self as rpc, Presence, register_server::Register};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use wire::limits::MAX_UID_BYTES;

use crate::{
    error::RegisterError, homes::RoomLife, kicks::Kicks, metrics::RegisterMetrics, rebuild::Rebuild,
    shard::Bind, store::Store,
};

pub(crate) struct RegisterRpc {
    pub(crate) store: Arc<Store>,
    pub(crate) rebuild: Arc<Rebuild>,
    pub(crate) kicks: Kicks,
    /// New lives of rooms, for the purger.
    pub(crate) lives: mpsc::Sender<RoomLife>,
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
        let bind = |item: &rpc::BindItem| {
            let life = RoomLife { room: item.room, incarnation: item.incarnation };
            let bind = Bind { life, conn: item.conn, since_ms: item.since_ms, above: item.above };
            let bound = self.store.bind(item.app, &item.uid, bind)?;
            if let Some(displaced) = bound.displaced {
                self.kicks.kick(item.app, &item.uid, displaced);
            }
            if bound.new_life {
                // A full queue holds the same news already, or the picture brings it.
                let _ = self.lives.try_send(life);
            }
            self.metrics.binds.inc();
            Ok(rpc::BindResult { fence: bound.fence })
        };
        let results = items.iter().map(bind).collect::<Result<_, RegisterError>>()?;
        Ok(Response::new(rpc::BindResponse { results }))
    }

    async fn unbind(
        &self,
        request: Request<rpc::UnbindRequest>,
    ) -> Result<Response<rpc::UnbindResponse>, Status> {
        let items = request.into_inner().items;
        check(items.iter().map(|item| item.uid.as_str()))?;
        let unbind = |item: &rpc::UnbindItem| {
            let removed = self.store.unbind(item.app, &item.uid, item.fence);
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
        let rebuilding = self.rebuild.is_on(now);
        let missing =
            |item: &rpc::LookUpItem| match rebuilding || self.store.is_unsure(item.app, &item.uid, now) {
                true => Presence::Rebuilding,
                false => Presence::Offline,
            };
        let look_up = |item: &rpc::LookUpItem| match self.store.look_up(item.app, &item.uid) {
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
        self.rebuild.settled(request.into_inner().room);
        Ok(Response::new(rpc::SettleResponse {}))
    }
}
