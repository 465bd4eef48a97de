//! The coordinators: upstream data, online and offline events, kicks.

use std::sync::Arc;

use cluster::{Role, rendezvous};
use flow::Batcher;
use proto::internal::{self as rpc, coordinator_client::CoordinatorClient};

use crate::{
    PeerError,
    call::Repeat,
    links::To,
    role::role,
    wire::{Line, Wire},
};

/// An item's fields apart from payload and names, encoded; an estimate is good enough for a bound.
const FIELDS: usize = 32;

struct CoordinatorLine {
    up: Batcher<rpc::UpItem, rpc::UpResult, PeerError>,
    events: Batcher<rpc::StateEvent, bool, PeerError>,
    kick: Batcher<rpc::KickUser, bool, PeerError>,
}

impl Line for CoordinatorLine {
    const ROLE: Role = Role::Coordinator;

    fn open(wire: &mut Wire) -> Self {
        let limits = wire.limits;
        let client = CoordinatorClient::new(wire.transport());
        let c = client.clone();
        // One batch at a time, for upstream and for events: the backend gets a user's in order.
        let weight = (limits.batch_bytes, up_bytes as fn(&rpc::UpItem) -> usize);
        let up = wire.batcher("coordinator_up", limits.ordered(), Some(weight), move |items| {
            let mut c = c.clone();
            async move { Ok(c.up(rpc::UpRequest { items }).await?.into_inner().results) }
        });
        let c = client.clone();
        let events = wire.batcher("coordinator_events", limits.ordered(), None, move |events| {
            let mut c = c.clone();
            async move { Ok(c.events(rpc::EventsRequest { events }).await?.into_inner().taken) }
        });
        let kick = wire.batcher("coordinator_kick", limits.batch(), None, move |users| {
            let mut c = client.clone();
            async move { Ok(c.kick(rpc::KickUsersRequest { users }).await?.into_inner().was_online) }
        });
        Self { up, events, kick }
    }
}

fn up_bytes(item: &rpc::UpItem) -> usize {
    item.payload.len() + item.uid.len() + item.kind.len() + FIELDS
}

role! {
    /// Calls to the coordinators. Clones are cheap and share connections and queues.
    ///
    /// A coordinator owns nothing that a user's next item needs, so any will do: a user keeps to one of those that are
    /// ready, by rendezvous hashing, for the sake of order, and goes to the next when that one fails. Items carry ids,
    /// by which the backend sees a repeat.
    Coordinators, CoordinatorLine
}

impl Coordinators {
    /// Hands a device's upstream item over. A user's items arrive in the order of these calls' first polls, as long
    /// as none has to be tried again.
    ///
    /// # Errors
    /// [`PeerError`]; that the coordinator asks for a retry, or rejects the item, is a result.
    pub async fn up(&self, item: rpc::UpItem) -> Result<rpc::UpResult, PeerError> {
        let to = To::Any(rendezvous::user_key(item.app, &item.uid));
        let call = |line: Arc<CoordinatorLine>| {
            let item = item.clone();
            async move { line.up.call(item).await }
        };
        self.links.call(to, Repeat::Harmless, call).await
    }

    /// Hands an online or offline event over; whether it is safe with the coordinator.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn event(&self, event: rpc::StateEvent) -> Result<bool, PeerError> {
        let to = To::Any(rendezvous::user_key(event.app, &event.uid));
        let call = |line: Arc<CoordinatorLine>| {
            let event = event.clone();
            async move { line.events.call(event).await }
        };
        self.links.call(to, Repeat::Harmless, call).await
    }

    /// Ends the user's session, wherever it is; whether there was one.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn kick(&self, app: impl Into<u32>, uid: &str) -> Result<bool, PeerError> {
        let app = app.into();
        let call = |line: Arc<CoordinatorLine>| {
            let user = rpc::KickUser { app, uid: uid.to_owned() };
            async move { line.kick.call(user).await }
        };
        let to = To::Any(rendezvous::user_key(app, uid));
        self.links.call(to, Repeat::Harmless, call).await
    }
}
