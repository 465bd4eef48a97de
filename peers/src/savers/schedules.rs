//! Pushes for later, and the offsets from UTC that they are due by.

use std::{collections::BTreeMap, sync::Arc};

use cluster::{NodeId, Role, rendezvous};
use futures::future::try_join_all;
use proto::internal as rpc;

use super::{SaverLine, Savers, accepted};
use crate::{
    PeerError,
    call::Repeat,
    links::{To, members},
};

impl Savers {
    /// All savers there are, also those that are down: the shards that [`Savers::due_scheduled`] is asked of.
    #[must_use]
    pub fn shards(&self) -> Vec<NodeId> {
        let mut nodes = members(&self.links.view().picture, Role::Saver);
        nodes.sort_unstable();
        nodes
    }

    /// Keeps a push for later, at the saver that owns (app, first uid); durable when this answers. True if the same (app,
    /// id, part) was there before, which stays as it is.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn put_scheduled(&self, push: rpc::ScheduledPush) -> Result<bool, PeerError> {
        let first = push.uids.first().map_or("", String::as_str);
        let to = To::Owner(rendezvous::user_key(push.app, first));
        let call = |line: Arc<SaverLine>| {
            let request = rpc::PutScheduledRequest { push: Some(push.clone()) };
            async move { line.control.call(line.client().put_scheduled(request)).await }
        };
        let response = self.links.call(to, Repeat::Harmless, call).await?;
        accepted(response.refusal)?;
        Ok(response.repeated)
    }

    /// What is due of one shard, soonest first. It stays there until it is removed.
    ///
    /// # Errors
    /// [`PeerError`]; that the saver has gone included.
    pub async fn due_scheduled(
        &self,
        shard: NodeId,
        now_ms: u64,
        limit: u32,
    ) -> Result<Vec<rpc::ScheduledPush>, PeerError> {
        let request = rpc::DueScheduledRequest { now_ms, limit };
        let call = |line: Arc<SaverLine>| async move {
            line.control.call(line.client().due_scheduled(request)).await
        };
        Ok(self.links.call(To::Node(shard), Repeat::Harmless, call).await?.pushes)
    }

    /// What waits for its time, of all shards, soonest first; at most `limit`.
    ///
    /// # Errors
    /// [`PeerError`] if any shard did not answer.
    pub async fn list_scheduled(
        &self,
        app: impl Into<u32>,
        limit: u32,
    ) -> Result<Vec<rpc::ScheduledPush>, PeerError> {
        let request = rpc::ListScheduledRequest { app: app.into(), limit };
        let parts =
            self.all(|line| async move { line.control.call(line.client().list_scheduled(request)).await });
        let mut pushes: Vec<_> = parts.await?.into_iter().flat_map(|part| part.pushes).collect();
        pushes.sort_by_key(|push| (push.due_ms, push.id, push.part));
        pushes.truncate(limit as usize);
        Ok(pushes)
    }

    /// Removes a push for later, or one part of it, wherever it is. Answers how many users the removed parts had.
    ///
    /// # Errors
    /// [`PeerError`] if any shard did not answer; the others have done it.
    pub async fn remove_scheduled(
        &self,
        app: impl Into<u32>,
        id: u64,
        part: Option<u32>,
    ) -> Result<u64, PeerError> {
        let request = rpc::RemoveScheduledRequest { app: app.into(), id, part };
        let parts =
            self.all(|line| async move { line.control.call(line.client().remove_scheduled(request)).await });
        Ok(parts.await?.into_iter().map(|part| part.removed).sum())
    }

    /// The offsets from UTC that these users' devices last told, in minutes and in the order of the users; 0 where none is
    /// known.
    ///
    /// # Errors
    /// [`PeerError`] if any shard did not answer.
    pub async fn utc_offsets(&self, app: impl Into<u32>, uids: &[String]) -> Result<Vec<i32>, PeerError> {
        let app = app.into();
        let view = self.links.view();
        let mut shards = BTreeMap::<_, Vec<usize>>::new();
        for (index, uid) in uids.iter().enumerate() {
            let owner = view.picture.owner(Role::Saver, rendezvous::user_key(app, uid));
            let owner = owner.ok_or(PeerError::NoNode(Role::Saver))?;
            shards.entry(owner.id).or_default().push(index);
        }
        let calls = shards.into_iter().map(|(node, indexes)| async move {
            let request = rpc::UtcOffsetsRequest {
                app,
                uids: indexes.iter().filter_map(|n| uids.get(*n)).cloned().collect(),
            };
            let call = |line: Arc<SaverLine>| {
                let request = request.clone();
                async move { line.control.call(line.client().utc_offsets(request)).await }
            };
            let response = self.links.call(To::Node(node), Repeat::Harmless, call).await?;
            Ok::<_, PeerError>((indexes, response.offsets_min))
        });
        let mut offsets = vec![0; uids.len()];
        for (indexes, part) in try_join_all(calls).await? {
            for (index, offset) in indexes.into_iter().zip(part) {
                offsets[index] = offset;
            }
        }
        Ok(offsets)
    }
}
