//! The savers: inboxes, broadcast logs, apps.

mod append;
mod apps;
mod jobs;
mod line;
mod merge;
mod schedules;
mod targets;

use std::{collections::BTreeMap, sync::Arc};

use cluster::{NodeId, Role, rendezvous};
use flow::CallError;
use futures::future::try_join_all;
use proto::internal::{self as rpc, Refusal};

use crate::{
    Again, First, PeerError,
    call::Repeat,
    links::{To, members},
    role::role,
};
pub use line::SHARED;
use line::SaverLine;
pub use targets::{TargetsPage, TargetsPlace};

role! {
    /// Calls to the savers. Clones are cheap and share connections and queues; one to a process is enough.
    ///
    /// An inbox belongs to the saver that rendezvous hashing of (app, uid) gives, a broadcast log to that of the app. All
    /// calls but the creation of an app may be repeated without harm, and are, within [`Limits::deadline`]:
    /// appends know their message by its id, acks and cursors only grow.
    Savers, SaverLine
}

impl Savers {
    /// Stores a message for its user, the first of the item's. The result is durable when this answers. After an error the user may
    /// have it: the same id may be appended again.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn append(&self, item: rpc::Append) -> Result<rpc::AppendResult, PeerError> {
        append::append(&self.links, item).await
    }

    /// Stores a message for a list of users, each in the inbox of its shard; results in the order of the list. The item's own
    /// users are not looked at. A saver that is away costs only its own users.
    pub async fn append_list<S: AsRef<str>>(
        &self,
        item: rpc::Append,
        uids: &[S],
    ) -> Vec<Result<rpc::Position, PeerError>> {
        append::append_list(&self.links, item, uids).await
    }

    /// Reads an inbox.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn load(&self, item: rpc::LoadItem) -> Result<rpc::LoadResult, PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        let call = |line: Arc<SaverLine>| {
            let item = item.clone();
            async move { line.load(&item).call(item).await }
        };
        let mut result = self.links.call(to, Repeat::Harmless, call).await?;
        accepted(result.refusal.take())?;
        Ok(result)
    }

    /// The saver whose inbox it is, as far as is known now.
    #[must_use]
    pub fn owner(&self, app: u32, uid: &str) -> Option<NodeId> {
        self.links.view().owner(rendezvous::user_key(app, uid), 0)
    }

    /// Reads inboxes of devices that come together, all with the same bounds: one attempt, as few calls to each owner as the
    /// bound on an answer allows. One answer for each, in their order; what is to be tried again goes on with
    /// [`Savers::load_again`].
    pub async fn load_all(&self, items: Vec<rpc::LoadItem>) -> Vec<First<rpc::LoadResult>> {
        let most = items.first().map_or(1, line::loads_of_a_call).min(self.links.limits().batch_items);
        let key = |item: &rpc::LoadItem| rendezvous::user_key(item.app, &item.uid);
        let call = |line: Arc<SaverLine>, items: Vec<rpc::LoadItem>| async move {
            let mut client = line.client();
            let (count, request) = (items.len(), rpc::LoadRequest { items });
            let answer = async { Ok(client.load(request).await?.into_inner().results) };
            line.loads.call(count, answer).await
        };
        let results = self.links.first(items, most, key, call).await;
        let refused = |mut result: rpc::LoadResult| match accepted(result.refusal.take()) {
            Ok(()) => First::Done(result),
            Err(error) => First::Failed(error),
        };
        results.into_iter().map(|first| first.and_then(refused)).collect()
    }

    /// Goes on with one of those that were tried together.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn load_again(&self, item: rpc::LoadItem, again: Again) -> Result<rpc::LoadResult, PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        let call = |line: Arc<SaverLine>| {
            let item = item.clone();
            async move { line.load(&item).call(item).await }
        };
        let mut result = self.links.go_on(to, Repeat::Harmless, again, call).await?;
        accepted(result.refusal.take())?;
        Ok(result)
    }

    /// Acks an inbox cumulatively, or keeps a broadcast cursor. An item with credits is answered when the archive has
    /// taken it; of one user there may be one of these under way, because a later cursor that is kept first would make
    /// the credits of an earlier one void.
    ///
    /// # Errors
    /// [`PeerError`]. An item with credits may have been taken all the same: the same credits, or more of them, may be
    /// told again.
    pub async fn ack(&self, item: rpc::AckItem) -> Result<(), PeerError> {
        let to = To::Owner(rendezvous::user_key(item.app, &item.uid));
        let call = |line: Arc<SaverLine>| {
            let item = item.clone();
            async move { line.acks(&item).call(item).await }
        };
        self.links.call(to, Repeat::Harmless, call).await
    }

    /// Ties an idempotency key to a message id. `repeated` is false if the key is tied to the very id that was
    /// offered: then it was this call that tied it, perhaps in an attempt whose answer was lost.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn reserve(&self, request: rpc::ReserveRequest) -> Result<rpc::ReserveResponse, PeerError> {
        let to = To::Owner(rendezvous::word_key(request.app, &request.key));
        let offered = request.id;
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.reserve.call(request).await }
        };
        let mut response = self.links.call(to, Repeat::Harmless, call).await?;
        accepted(response.refusal.take())?;
        response.repeated &= response.id != offered;
        Ok(response)
    }

    /// How many messages wait in an inbox.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn depth(&self, app: impl Into<u32>, uid: &str) -> Result<u64, PeerError> {
        let app = app.into();
        let call = |line: Arc<SaverLine>| {
            let request = rpc::DepthRequest { app, uid: uid.to_owned() };
            async move { line.depth.call(request).await }
        };
        let to = To::Owner(rendezvous::user_key(app, uid));
        Ok(self.links.call(to, Repeat::Harmless, call).await?.depth)
    }

    /// Takes a message out of the inboxes of one shard, of so many users as one answer names.
    ///
    /// # Errors
    /// [`PeerError`]; a repeat goes on where this ended.
    pub async fn recall(
        &self,
        shard: NodeId,
        request: rpc::RecallRequest,
    ) -> Result<rpc::RecallResponse, PeerError> {
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().recall(request)).await }
        };
        self.links.call(To::Node(shard), Repeat::Harmless, call).await
    }

    /// The ledger of a message, summed over every shard.
    ///
    /// # Errors
    /// [`PeerError`] if any shard did not answer: a part of a sum is none.
    pub async fn ledger(&self, app: impl Into<u32>, id: u64) -> Result<rpc::LedgerResponse, PeerError> {
        let request = rpc::LedgerRequest { app: app.into(), id };
        let parts = self.all(|line| async move { line.control.call(line.client().ledger(request)).await });
        Ok(merge::ledgers(parts.await?))
    }

    /// Appends to the broadcast log of an app; durable when this answers.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn append_broadcast(
        &self,
        request: rpc::AppendBroadcastRequest,
    ) -> Result<rpc::AppendBroadcastResponse, PeerError> {
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().append_broadcast(request)).await }
        };
        let mut response = self.links.call(app_owner(request.app), Repeat::Harmless, call).await?;
        accepted(response.refusal.take())?;
        Ok(response)
    }

    /// Reads the broadcast log of an app.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn load_broadcasts(
        &self,
        request: rpc::LoadBroadcastsRequest,
    ) -> Result<rpc::LoadBroadcastsResponse, PeerError> {
        let call = |line: Arc<SaverLine>| async move {
            line.control.call(line.client().load_broadcasts(request)).await
        };
        let mut response = self.links.call(app_owner(request.app), Repeat::Harmless, call).await?;
        accepted(response.refusal.take())?;
        merge::share_bodies(&mut response.broadcasts);
        Ok(response)
    }

    /// Takes a broadcast back: its job is stopped, and all that was released of it is taken out of the log. Answers
    /// whether there was anything left to stop or to take.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn recall_broadcast(&self, app: impl Into<u32>, id: u64) -> Result<bool, PeerError> {
        let request = rpc::RecallBroadcastRequest { app: app.into(), id };
        let call = |line: Arc<SaverLine>| async move {
            line.control.call(line.client().recall_broadcast(request)).await
        };
        Ok(self.links.call(app_owner(request.app), Repeat::Harmless, call).await?.recalled)
    }

    /// The newest number of each app's log. An app whose saver does not answer makes the whole an error.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn broadcast_heads(&self, apps: &[u32]) -> Result<Vec<rpc::BroadcastHead>, PeerError> {
        let view = self.links.view();
        let mut shards = BTreeMap::<_, Vec<u32>>::new();
        for app in apps {
            let owner = view.picture.owner(Role::Saver, rendezvous::app_key(*app));
            let owner = owner.ok_or(PeerError::NoNode(Role::Saver))?;
            shards.entry(owner.id).or_default().push(*app);
        }
        let calls = shards.into_iter().map(|(node, apps)| {
            let call = move |line: Arc<SaverLine>| {
                let request = rpc::BroadcastHeadsRequest { apps: apps.clone() };
                async move { line.control.call(line.client().broadcast_heads(request)).await }
            };
            self.links.call(To::Node(node), Repeat::Harmless, call)
        });
        Ok(try_join_all(calls).await?.into_iter().flat_map(|response| response.heads).collect())
    }

    /// Calls every saver; an error of one is that of the whole.
    async fn all<T, F, Fut>(&self, op: F) -> Result<Vec<T>, PeerError>
    where
        F: Fn(Arc<SaverLine>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let nodes = members(&self.links.view().picture, Role::Saver);
        if nodes.is_empty() {
            return Err(self.links.give_up(PeerError::NoNode(Role::Saver)));
        }
        self.links.call_each(nodes, op).await.into_iter().map(|(_, result)| result).collect()
    }
}

fn app_owner(app: u32) -> To {
    To::Owner(rendezvous::app_key(app))
}

fn accepted(refusal: Option<Refusal>) -> Result<(), PeerError> {
    refusal.map_or(Ok(()), |refusal| Err(PeerError::Refused(refusal)))
}
