//! Appends: of a message to one user, and to a list, split by shard.

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

/// Users of one part of a list: with the longest names 128 KiB, so it shares batches with others.
const PART_USERS: usize = 1_000;

/// To the user of the item.
pub(super) async fn append(links: &Links<SaverLine>, item: Append) -> Result<AppendResult, PeerError> {
    let Some(uid) = item.uids.first() else { return Ok(AppendResult::default()) };
    let to = To::Owner(rendezvous::user_key(item.app, uid));
    let call = |line: Arc<SaverLine>| {
        let item = item.clone();
        async move { line.append(&item).call(item).await }
    };
    let mut result = links.call(to, Repeat::Harmless, call).await?;
    accepted(result.refusal.take())?;
    Ok(result)
}

/// To each user of a list.
pub(super) async fn append_list<S: AsRef<str>>(
    links: &Links<SaverLine>,
    item: Append,
    uids: &[S],
) -> Vec<Result<Position, PeerError>> {
    let mut results = Vec::with_capacity(uids.len());
    results.resize_with(uids.len(), || Err(PeerError::NoNode(Role::Saver)));
    let keys = uids.iter().map(|uid| rendezvous::user_key(item.app, uid.as_ref())).collect();
    List { links, item: Append { multicast: true, ..item }, uids, keys, results }.run().await
}

/// A list on its way.
struct List<'a, S> {
    links: &'a Links<SaverLine>,
    /// What goes to everyone; without users.
    item: Append,
    uids: &'a [S],
    keys: Vec<u64>,
    results: Vec<Result<Position, PeerError>>,
}

impl<S: AsRef<str>> List<'_, S> {
    /// Appends the parts of all shards at the same time. What failed and may be repeated is split anew by the picture
    /// of its next attempt: its users may have moved to different owners.
    async fn run(mut self) -> Vec<Result<Position, PeerError>> {
        let limits = self.links.limits();
        let mut retries = Retries::new(limits.backoff(), Instant::now() + limits.deadline);
        let mut todo: Vec<u32> = (0..).take(self.keys.len()).collect();
        loop {
            let mut failure = None;
            let parts = self.split(std::mem::take(&mut todo), retries.attempt());
            let calls = parts.into_iter().map(|(node, users)| self.send(node, users, retries.deadline()));
            for (users, result) in join_all(calls).await {
                match result {
                    Ok(part) => self.settle(&users, part),
                    Err(error) => match error.into_attempt(true) {
                        Attempt::Stop(error) => self.fail(&users, error),
                        again => {
                            todo.extend(users);
                            failure = Some(again);
                        }
                    },
                }
            }
            let Some(failure) = failure else { return self.results };
            if let Err(error) = self.links.pause(&mut retries, failure).await {
                self.fail(&todo, error);
                return self.results;
            }
        }
    }

    /// Who is to be asked for which of the users (by index), now.
    fn split(&self, todo: Vec<u32>, attempt: u32) -> Vec<(Option<NodeId>, Vec<u32>)> {
        let view = self.links.view();
        let mut shards = BTreeMap::<_, Vec<u32>>::new();
        for index in todo {
            shards.entry(view.owner(self.keys[index as usize], attempt)).or_default().push(index);
        }
        let parts = |(node, users): (Option<NodeId>, Vec<u32>)| {
            users.chunks(PART_USERS).map(|part| (node, part.to_vec())).collect::<Vec<_>>()
        };
        shards.into_iter().flat_map(parts).collect()
    }

    async fn send(
        &self,
        node: Option<NodeId>,
        users: Vec<u32>,
        deadline: Instant,
    ) -> (Vec<u32>, Result<AppendResult, PeerError>) {
        let Some(node) = node else { return (users, Err(PeerError::NoNode(Role::Saver))) };
        let call = |line: Arc<SaverLine>| {
            let names = users.iter().map(|user| self.uids[*user as usize].as_ref().to_owned());
            let part = Append { uids: names.collect(), ..self.item.clone() };
            async move { line.append(&part).call(part).await }
        };
        let result = self.links.attempt(To::Node(node), 0, deadline, &call).await;
        (users, result)
    }

    fn settle(&mut self, users: &[u32], mut part: AppendResult) {
        if let Err(refused) = accepted(part.refusal.take()) {
            return self.fail(users, refused);
        }
        for (user, position) in users.iter().zip(part.positions) {
            self.results[*user as usize] = Ok(position);
        }
    }

    /// For good.
    fn fail(&mut self, users: &[u32], error: PeerError) {
        let error = self.links.give_up(error);
        for user in users {
            self.results[*user as usize] = Err(error.clone());
        }
    }
}
