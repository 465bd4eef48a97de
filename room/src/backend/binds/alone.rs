//! A bind that cannot go on with the others: it waits for something that they do not wait for, or a call failed and is tried
//! again.

use peers::{Again, PeerError, Retry};
use proto::internal as rpc;
use wire::{
    frame::BindCode,
    id::{AppId, FenceNumber},
};

use super::{
    Settled,
    begin::{Begun, Entered, admit, refuse},
    busy,
    read::{Read, load_item, place, wanted},
    refusal,
};
use crate::{
    backend::{Backend, Services, broadcasts::credits, ends},
    exchange::{BindAsk, GivenUp},
};

/// Where it goes on.
pub(super) enum Alone<'a> {
    /// Its app is not at hand, or another bind of the user is under way.
    Ask(BindAsk),
    /// The register has failed once.
    Register(Begun<'a>, Again),
    /// The saver has failed once.
    Load(Entered<'a>, Again),
    /// The head of the app's log is not known.
    Head(Entered<'a>, rpc::LoadResult),
    /// The device has more of the broadcasts than the saver knows, or what comes next for it may be over.
    Settle(Entered<'a>, Read),
    /// The register has a session that no thread will ever hold.
    GiveBack(Entered<'a>, PeerError),
}

/// Brings a bind to its end; for those whose devices have gone the register is not asked.
pub(super) async fn go_alone<S: Services>(backend: &Backend<S>, alone: Alone<'_>, gone: &GivenUp) -> Settled {
    match alone {
        Alone::Ask(ask) => from_the_beginning(backend, ask, gone).await,
        Alone::Register(begun, again) if gone.has(begun.ask.binding) => {
            let doubt = again.error().outcome().retry == Retry::IfIdempotent;
            not_entered(backend, begun, again.error(), doubt)
        }
        Alone::Register(begun, again) => {
            let doubt = again.error().outcome().retry == Retry::IfIdempotent;
            let item = begun.item(backend.identity.node, backend.identity.life());
            match backend.services.bind_again(item, again).await {
                Ok(fence) => load(backend, Entered { begun, fence: FenceNumber(fence) }).await,
                Err(error) => not_entered(backend, begun, &error, doubt),
            }
        }
        Alone::Load(entered, again) => {
            let item = load_item(&backend.limits, entered.begun.app, &entered.begun.ask);
            match backend.services.load_again(item, again).await {
                Ok(result) => read(backend, entered, result).await,
                Err(error) => give_back(backend, entered, &error).await,
            }
        }
        Alone::Head(entered, result) => read(backend, entered, result).await,
        Alone::Settle(entered, read) => settle(backend, entered, read).await,
        Alone::GiveBack(entered, error) => give_back(backend, entered, &error).await,
    }
}

async fn from_the_beginning<S: Services>(backend: &Backend<S>, ask: BindAsk, gone: &GivenUp) -> Settled {
    let app = match backend.services.app(&ask.app).await {
        Ok(Some(app)) => app,
        Ok(None) => {
            let message = format!("app {:?} is not known", &*ask.app);
            return refuse(ask, refusal(BindCode::UnknownApp, message));
        }
        Err(error) => return refuse(ask, busy(&error)),
    };
    let now_ms = cluster::now_ms();
    let under_way = match admit(backend, &app, &ask, now_ms) {
        Ok(under_way) => under_way,
        Err(refused) => return refuse(ask, refused),
    };
    let app = AppId(app.id);
    let pending = backend.pending.enter(app, ask.uid.clone(), ask.conn, || backend.round()).await;
    let begun = Begun::new(ask, app, pending, now_ms, under_way);
    if gone.has(begun.ask.binding) {
        return begun.given_up();
    }
    let item = begun.item(backend.identity.node, backend.identity.life());
    match backend.services.bind(item).await {
        Ok(fence) => load(backend, Entered { begun, fence: FenceNumber(fence) }).await,
        Err(error) => not_entered(backend, begun, &error, false),
    }
}

/// The register did not take it, as far as is known. `doubt`: an earlier attempt may have been done.
pub(super) fn not_entered<S: Services>(
    backend: &Backend<S>,
    begun: Begun<'_>,
    error: &PeerError,
    doubt: bool,
) -> Settled {
    if doubt || error.outcome().retry == Retry::IfIdempotent {
        // Perhaps it was done and only the answer is lost: then the user looks online here.
        let rpc::BindItem { app, uid, room, incarnation, conn, since_ms } =
            begun.item(backend.identity.node, backend.identity.life());
        backend.late.unbind(rpc::UnbindItem { app, uid, fence: 0, room, incarnation, conn, since_ms });
    }
    begun.refused(busy(error))
}

async fn load<S: Services>(backend: &Backend<S>, entered: Entered<'_>) -> Settled {
    let item = load_item(&backend.limits, entered.begun.app, &entered.begun.ask);
    match backend.services.load(item).await {
        Ok(result) => read(backend, entered, result).await,
        Err(error) => give_back(backend, entered, &error).await,
    }
}

async fn read<S: Services>(backend: &Backend<S>, entered: Entered<'_>, result: rpc::LoadResult) -> Settled {
    let Begun { ask, app, .. } = &entered.begun;
    let found = match backend.broadcasts.head(*app, wanted(ask)).await {
        Ok(log) => place(result, log, ask),
        Err(error) => Err(error),
    };
    match found {
        Ok(read) => settle(backend, entered, read).await,
        Err(error) => give_back(backend, entered, &error).await,
    }
}

async fn settle<S: Services>(backend: &Backend<S>, entered: Entered<'_>, read: Read) -> Settled {
    let Begun { ask, app, .. } = &entered.begun;
    let (saved, cursor, owed) = credits::settle(backend, *app, ask, read.stand()).await;
    entered.done(Read { saved, cursor, ..read }, owed)
}

async fn give_back<S: Services>(backend: &Backend<S>, entered: Entered<'_>, error: &PeerError) -> Settled {
    let Entered { begun, fence } = entered;
    ends::give_back(backend, begun.app, &begun.ask.uid, fence).await;
    begun.refused(busy(error))
}
