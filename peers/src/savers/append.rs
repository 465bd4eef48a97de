//! Appends, split by shard.

use std::{collections::BTreeMap, sync::Arc};

use cluster::{NodeId, Role, rendezvous};
use flow::{Attempt, Retries};
use futures::future::join_all;
use proto::internal::{Append, AppendResult, Position};
use tokio::time::Instant;

use super::{SaverLine, accepted};
use crate::{
    PeerError,
    call::Repeat,
    links::{Links, To},
};

pub(super) async fn append(links: &Links<SaverLine>, item: Append) -> Result<AppendResult, PeerError> {
    match item.uids.as_slice() {
        [] => Ok(AppendResult::default()),
        [uid] => {
            let to = To::Owner(rendezvous::user_key(item.app, uid));
            let call = |line: Arc<SaverLine>| {
                let item = item.clone();
                async move { line.append(&item).call(item).await }
            };
            let mut result = links.call(to, Repeat::Harmless, call).await?;
            accepted(result.refusal.take())?;
            Ok(result)
        }
        _ => Box::pin(Multicast::new(links, item).run()).await.map_err(|e| links.give_up(e)),
    }
}

/// An append to several users, on its way.
struct Multicast<'a> {
    links: &'a Links<SaverLine>,
    item: Append,
    keys: Vec<u64>,
    positions: Vec<Position>,
    repeated: bool,
}

impl<'a> Multicast<'a> {
    fn new(links: &'a Links<SaverLine>, mut item: Append) -> Self {
        item.multicast = true;
        let keys: Vec<_> = item.uids.iter().map(|uid| rendezvous::user_key(item.app, uid)).collect();
        let positions = vec![Position::default(); keys.len()];
        Self { links, item, keys, positions, repeated: true }
    }

    /// Appends the parts of all shards at the same time. What failed and may be repeated is split anew by the picture
    /// of its next attempt: its users may have moved to different owners.
    async fn run(mut self) -> Result<AppendResult, PeerError> {
        let limits = self.links.limits();
        let mut retries = Retries::new(limits.backoff(), Instant::now() + limits.deadline);
        let mut todo: Vec<usize> = (0..self.keys.len()).collect();
        loop {
            let mut failure = None;
            let parts = self.split(std::mem::take(&mut todo), retries.attempt());
            let calls = parts.into_iter().map(|(node, indexes)| self.send(node, indexes, retries.deadline()));
            for (indexes, result) in join_all(calls).await {
                match result.map_err(|error| error.into_attempt(true)) {
                    Ok(part) => self.settle(&indexes, part)?,
                    Err(Attempt::Stop(error)) => return Err(error),
                    Err(again) => {
                        todo.extend(indexes);
                        failure = Some(again);
                    }
                }
            }
            match failure {
                None => {
                    return Ok(AppendResult {
                        positions: self.positions,
                        refusal: None,
                        repeated: self.repeated,
                    });
                }
                Some(failure) => self.links.pause(&mut retries, failure).await?,
            }
        }
    }

    /// Who is to be asked for which of the users (by index), now.
    fn split(&self, todo: Vec<usize>, attempt: u32) -> BTreeMap<Option<NodeId>, Vec<usize>> {
        let view = self.links.view();
        let mut parts = BTreeMap::<_, Vec<usize>>::new();
        for index in todo {
            let owner = view.owner(self.keys[index], attempt);
            parts.entry(owner).or_default().push(index);
        }
        parts
    }

    async fn send(
        &self,
        node: Option<NodeId>,
        indexes: Vec<usize>,
        deadline: Instant,
    ) -> (Vec<usize>, Result<AppendResult, PeerError>) {
        let Some(node) = node else { return (indexes, Err(PeerError::NoNode(Role::Saver))) };
        // Made when it is sent: a list of thousands of names is copied once.
        let call = |line: Arc<SaverLine>| {
            let part = self.part(&indexes);
            async move { line.append(&part).call(part).await }
        };
        let result = self.links.attempt(To::Node(node), 0, deadline, &call).await;
        (indexes, result)
    }

    fn part(&self, indexes: &[usize]) -> Append {
        let item = &self.item;
        Append {
            id: item.id,
            app: item.app,
            uids: indexes.iter().map(|i| item.uids[*i].clone()).collect(),
            payload: item.payload.clone(),
            accepted_ms: item.accepted_ms,
            expires_ms: item.expires_ms,
            durability: item.durability,
            inbox_cap: item.inbox_cap,
            multicast: item.multicast,
            collapse_key: item.collapse_key.clone(),
        }
    }

    fn settle(&mut self, indexes: &[usize], mut part: AppendResult) -> Result<(), PeerError> {
        accepted(part.refusal.take())?;
        self.repeated &= part.repeated;
        for (index, position) in indexes.iter().zip(part.positions) {
            self.positions[*index] = position;
        }
        Ok(())
    }
}
