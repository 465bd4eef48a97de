//! The registers: where each user is.

mod list;

use std::sync::Arc;

use cluster::{NodeId, Picture, Role, Transport, rendezvous};
use flow::{Batcher, CallError};
use proto::internal::{self as rpc, register_client::RegisterClient};
use tokio::time::Instant;

use crate::{
    Again, First, PeerError,
    call::Repeat,
    links::To,
    role::role,
    wire::{Control, Line, Parcels, Wire},
};

struct RegisterLine {
    bind: Batcher<rpc::BindItem, rpc::BindResult, PeerError>,
    /// Those that come together.
    binds: Parcels,
    unbind: Batcher<rpc::UnbindItem, bool, PeerError>,
    look_up: Batcher<rpc::LookUpItem, rpc::LookUpResult, PeerError>,
    /// For messages that do not wait behind others.
    look_up_urgent: Batcher<rpc::LookUpItem, rpc::LookUpResult, PeerError>,
    control: Control,
    client: RegisterClient<Transport>,
}

impl Line for RegisterLine {
    const ROLE: Role = Role::Register;

    fn open(wire: &mut Wire) -> Self {
        let limits = wire.limits.batch();
        let client = RegisterClient::new(wire.transport());
        let c = client.clone();
        let bind = wire.paced("register_bind", limits, None, move |items| {
            let mut c = c.clone();
            async move { Ok(c.bind(rpc::BindRequest { items }).await?.into_inner().results) }
        });
        let c = client.clone();
        let unbind = wire.paced("register_unbind", limits, None, move |items| {
            let mut c = c.clone();
            async move { Ok(c.unbind(rpc::UnbindRequest { items }).await?.into_inner().removed) }
        });
        let mut look_ups = |name| {
            let c = client.clone();
            wire.batcher(name, limits, None, move |items| {
                let mut c = c.clone();
                async move { Ok(c.look_up(rpc::LookUpRequest { items }).await?.into_inner().results) }
            })
        };
        let (look_up, look_up_urgent) = (look_ups("register_look_up"), look_ups("register_look_up_urgent"));
        let binds = wire.parcels("register_bind");
        Self { bind, binds, unbind, look_up, look_up_urgent, control: wire.control(), client }
    }
}

/// Which registers share the users out among themselves, in one number: equal pictures of them have equal numbers, and
/// another register, or another life of one, changes it. Rooms and registers compare theirs.
#[must_use]
pub fn membership(picture: &Picture) -> u64 {
    let node = |hash, node: &cluster::NodeInfo| {
        let id = rendezvous::score(hash, node.id);
        rendezvous::score(id ^ node.life(), node.id)
    };
    picture.of(Role::Register).fold(1, node)
}

role! {
    /// Calls to the registers, each to the owner of the user by rendezvous hashing. Clones are cheap and share connections
    /// and queues.
    Registers, RegisterLine
}

impl Registers {
    /// Tells one register sessions that the room holds.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::NoNode`] at once if there is no such register.
    pub async fn restore(
        &self,
        register: NodeId,
        request: rpc::RestoreRequest,
    ) -> Result<rpc::RestoreResponse, PeerError> {
        let call = |line: Arc<RegisterLine>| {
            let request = request.clone();
            async move { line.control.call(line.client.clone().restore(request)).await }
        };
        self.links.call(To::Node(register), Repeat::Harmless, call).await
    }

    /// Tells one register that the room has told it all its sessions of that register's users; whether the register wants
    /// to be told (again).
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::NoNode`] at once if there is no such register.
    pub async fn settle(&self, register: NodeId, request: rpc::SettleRequest) -> Result<bool, PeerError> {
        let call = |line: Arc<RegisterLine>| async move {
            line.control.call(line.client.clone().settle(request)).await
        };
        Ok(self.links.call(To::Node(register), Repeat::Harmless, call).await?.again)
    }

    /// The register whose user it is, as far as is known now.
    #[must_use]
    pub fn owner(&self, app: u32, uid: &str) -> Option<NodeId> {
        self.links.view().owner(rendezvous::user_key(app, uid), 0)
    }

    /// Enters sessions that come together: one attempt, one call to each owner. The fence of each, in their order; what is to be
    /// tried again goes on with [`Registers::bind_again`].
    pub async fn bind_all(&self, items: Vec<rpc::BindItem>) -> Vec<First<u64>> {
        let key = |item: &rpc::BindItem| rendezvous::user_key(item.app, &item.uid);
        let call = |line: Arc<RegisterLine>, items: Vec<rpc::BindItem>| async move {
            let mut client = line.client.clone();
            let (count, request) = (items.len(), rpc::BindRequest { items });
            let answer = async { Ok(client.bind(request).await?.into_inner().results) };
            line.binds.call(count, answer).await
        };
        let deadline = Instant::now() + self.links.limits().deadline;
        let results = self.links.first(items, self.links.limits().batch_items, key, call).await;
        let fence = |result: rpc::BindResult| {
            if result.not_owner {
                self.links.failed(not_owner(), deadline)
            } else {
                First::Done(result.fence)
            }
        };
        results.into_iter().map(|first| first.and_then(fence)).collect()
    }

    /// Goes on with one of those that were tried together.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn bind_again(&self, item: rpc::BindItem, again: Again) -> Result<u64, PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        self.links.go_on(to, Repeat::Harmless, again, |line| bind(line, item.clone())).await
    }

    /// Enters a session and answers its fence. It may be repeated: the session then gets a higher fence.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn bind(&self, item: rpc::BindItem) -> Result<u64, PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        self.links.call(to, Repeat::Harmless, |line| bind(line, item.clone())).await
    }

    /// Removes a session if it still has its fence; whether it was there. A repeat whose first attempt was done but
    /// not answered says `false`: an "offline" event may then be missing, never a wrong one sent.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn unbind(&self, item: rpc::UnbindItem) -> Result<bool, PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        let call = |line: Arc<RegisterLine>| {
            let item = item.clone();
            async move { line.unbind.call(item).await }
        };
        self.links.call(to, Repeat::Harmless, call).await
    }

    /// Where a user is.
    ///
    /// # Errors
    /// [`PeerError`]; at once if too many look-ups wait.
    pub async fn look_up(&self, app: impl Into<u32>, uid: &str) -> Result<rpc::LookUpResult, PeerError> {
        let app = app.into();
        let call = |line: Arc<RegisterLine>| {
            let item = rpc::LookUpItem { app, uid: uid.to_owned() };
            async move { line.look_up.call(item).await }
        };
        let to = To::Owner(rendezvous::user_key(app, uid));
        self.links.call(to, Repeat::Harmless, call).await
    }

    /// The same, not behind what is not urgent.
    ///
    /// # Errors
    /// As those of [`Registers::look_up`].
    pub async fn look_up_urgent(
        &self,
        app: impl Into<u32>,
        uid: &str,
    ) -> Result<rpc::LookUpResult, PeerError> {
        let app = app.into();
        let call = |line: Arc<RegisterLine>| {
            let item = rpc::LookUpItem { app, uid: uid.to_owned() };
            async move { line.look_up_urgent.call(item).await }
        };
        let to = To::Owner(rendezvous::user_key(app, uid));
        self.links.call(to, Repeat::Harmless, call).await
    }
}

async fn bind(line: Arc<RegisterLine>, item: rpc::BindItem) -> Result<u64, CallError<PeerError>> {
    let result = line.bind.call(item).await?;
    // Its picture of the cluster differs from ours; one of the two is about to change.
    if result.not_owner { Err(CallError::Failed(not_owner())) } else { Ok(result.fence) }
}

fn not_owner() -> PeerError {
    PeerError::Unavailable {
        role: Role::Register,
        node: None,
        detail: "the user is changing from one register to another".into(),
    }
}
