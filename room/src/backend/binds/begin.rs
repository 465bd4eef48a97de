//! The beginning of a bind: what can be judged here, without asking anybody.

use proto::internal as rpc;
use tokio::time::Instant;
use wire::{
    frame::BindCode,
    id::{AppId, FenceNumber},
};

use super::{Settled, read::Read, refusal};
use crate::{
    backend::{Backend, Services, congestion::UnderWay, pending::PendingBind},
    exchange::{BindAnswer, BindAsk, BindDone, BindRefusal, Credit},
};

/// A bind whose token is good and whose turn it is. It is under way until this is dropped.
pub(super) struct Begun<'a> {
    pub(super) ask: BindAsk,
    pub(super) app: AppId,
    pub(super) pending: PendingBind,
    /// When it was begun, ms since 1970, as the register will have it.
    since_ms: u64,
    under_way: UnderWay<'a>,
}

/// A bind that the register has taken.
pub(super) struct Entered<'a> {
    pub(super) begun: Begun<'a>,
    pub(super) fence: FenceNumber,
}

/// What becomes of a bind at its beginning.
pub(super) enum Start<'a> {
    Begun(Begun<'a>),
    /// Something has to be waited for.
    Alone(BindAsk),
    Settled(Settled),
}

/// Begins a bind at this time (ms since 1970).
pub(super) fn begin<S: Services>(backend: &Backend<S>, ask: BindAsk, now_ms: u64) -> Start<'_> {
    let Some(app) = backend.services.app_at_hand(&ask.app) else { return Start::Alone(ask) };
    let under_way = match admit(backend, &app, &ask, now_ms) {
        Ok(under_way) => under_way,
        Err(refused) => return Start::Settled(refuse(ask, refused)),
    };
    let app = AppId(app.id);
    match backend.pending.try_enter(app, &ask.uid, ask.conn, backend.round()) {
        Some(pending) => Start::Begun(Begun::new(ask, app, pending, now_ms, under_way)),
        None => Start::Alone(ask),
    }
}

/// Checks the token, and whether there is room for one more bind.
pub(super) fn admit<'a, S: Services>(
    backend: &'a Backend<S>,
    app: &rpc::App,
    ask: &BindAsk,
    now_ms: u64,
) -> Result<UnderWay<'a>, BindRefusal> {
    backend
        .verifier
        .verify(app, &ask.token, &ask.uid, now_ms / 1_000)
        .map_err(|bad| refusal(bad.code(), bad.to_string()))?;
    backend.congestion.enter().map_err(|retry_after_ms| {
        backend.metrics.binds_shed.inc();
        BindRefusal { retry_after_ms, ..refusal(BindCode::Busy, "the cluster is busy".to_owned()) }
    })
}

impl<'a> Begun<'a> {
    pub(super) fn new(
        ask: BindAsk,
        app: AppId,
        pending: PendingBind,
        since_ms: u64,
        under_way: UnderWay<'a>,
    ) -> Self {
        // The token has done what it is for; there are many binds under way, and it is the longest part of each.
        let ask = BindAsk { token: String::new(), ..ask };
        Self { ask, app, pending, since_ms, under_way }
    }

    /// When it was begun.
    pub(super) fn since(&self) -> Instant {
        self.under_way.since()
    }

    /// What the register is told, by the room's node in this life.
    pub(super) fn item(&self, room: u32, incarnation: u64) -> rpc::BindItem {
        rpc::BindItem {
            app: self.app.0,
            uid: self.ask.uid.as_str().to_owned(),
            room,
            incarnation,
            conn: self.ask.conn.0,
            since_ms: self.since_ms,
        }
    }

    /// Nobody is asked for it any more.
    pub(super) fn given_up(self) -> Settled {
        given_up(self.ask)
    }

    /// It is not to be.
    pub(super) fn refused(self, refused: BindRefusal) -> Settled {
        refuse(self.ask, refused)
    }
}

impl Entered<'_> {
    /// All is known that the thread needs. `owed` is to be counted up to the device's own cursor.
    pub(super) fn done(self, read: Read, owed: Vec<Credit>) -> Settled {
        let Read { inbox, saved, cursor, log } = read;
        let Begun { ask, app, pending, .. } = self.begun;
        let done = BindDone {
            app,
            fence: self.fence,
            inbox,
            cursor,
            saved_cursor: saved,
            owed,
            log,
            kicked: None,
            reload: false,
        };
        let answer =
            BindAnswer { binding: ask.binding, tags: ask.tags, device: ask.device, result: Ok(done) };
        (answer, Some(pending))
    }
}

/// The answer to a bind whose device has gone, so that nobody hears it: it frees the thread's place.
pub(super) fn given_up(ask: BindAsk) -> Settled {
    refuse(ask, refusal(BindCode::Busy, "the device has gone".to_owned()))
}

/// The answer to a bind that is not to be.
pub(super) fn refuse(ask: BindAsk, refused: BindRefusal) -> Settled {
    let BindAsk { binding, tags, device, .. } = ask;
    (BindAnswer { binding, tags, device, result: Err(refused) }, None)
}
