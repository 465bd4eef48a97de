//! Many calls at once: the first attempt at all of them.
//!
//! A caller that has many items at hand pays for each of them what a call by itself costs: a future, a time-out, a place in a
//! queue, a channel for the answer. Almost always the first attempt succeeds, and then one call to each owner and a list of
//! answers will do. What did not succeed is tried again one by one.

use std::{future::Future, sync::Arc};

use cluster::NodeId;
use flow::{Attempt, CallError};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::{
    PeerError,
    call::{Repeat, judge},
    links::{Links, To},
    wire::Line,
};

/// What came of the first attempt at one of many calls.
#[derive(Debug)]
pub enum First<T> {
    /// It succeeded.
    Done(T),
    /// Another would fail the same way.
    Failed(PeerError),
    /// Another may succeed: the call by itself goes on from here.
    Again(Again),
}

/// A call that has failed once, and its time.
#[derive(Debug)]
pub struct Again {
    pub(crate) failure: Attempt<PeerError>,
    pub(crate) deadline: Instant,
}

impl Again {
    /// How it failed.
    #[must_use]
    pub fn error(&self) -> &PeerError {
        match &self.failure {
            Attempt::Again(error) | Attempt::After(error, _) | Attempt::Stop(error) => error,
        }
    }
}

impl<T> First<T> {
    /// The same of what `op` makes of the answer.
    pub(crate) fn and_then<U>(self, op: impl FnOnce(T) -> First<U>) -> First<U> {
        match self {
            Self::Done(done) => op(done),
            Self::Failed(error) => First::Failed(error),
            Self::Again(again) => First::Again(again),
        }
    }
}

/// What goes to one node: the items, and their places in the whole.
struct Share<Q> {
    node: NodeId,
    places: Vec<usize>,
    items: Vec<Q>,
}

impl<L: Line> Links<L> {
    /// Makes one attempt at a call for each item, all at the same time: `op` makes one call to a node for at most `most` items,
    /// and answers as many results in their order. It must be harmless to do it again.
    pub(crate) async fn first<Q, T, F, Fut>(
        &self,
        items: Vec<Q>,
        most: usize,
        key: impl Fn(&Q) -> u64,
        op: F,
    ) -> Vec<First<T>>
    where
        F: Fn(Arc<L>, Vec<Q>) -> Fut,
        Fut: Future<Output = Result<Vec<T>, CallError<PeerError>>>,
    {
        let deadline = Instant::now() + self.limits().deadline;
        let mut answers: Vec<Option<First<T>>> = Vec::new();
        answers.resize_with(items.len(), || None);
        let shares = self.shares(items, most.max(1), key);
        let calls = shares.into_iter().map(|Share { node, places, items }| {
            let line = self.view().line(node);
            let answer = line.map(|line| timeout_at(deadline, op(line, items)));
            async move {
                let result = match answer {
                    None => Err(PeerError::NoNode(L::ROLE)),
                    Some(answer) => match answer.await {
                        Ok(result) => result.map_err(|error| PeerError::from_call(L::ROLE, node, error)),
                        Err(_) => Err(PeerError::deadline(L::ROLE)),
                    },
                };
                (node, places, result)
            }
        });
        for (node, places, result) in join_all(calls).await {
            match result {
                Ok(results) => {
                    let mut results = results.into_iter();
                    for place in places {
                        let lost =
                            || self.failed(PeerError::from_call(L::ROLE, node, CallError::Lost), deadline);
                        answers[place] = Some(results.next().map_or_else(lost, First::Done));
                    }
                }
                Err(error) => {
                    for place in places {
                        answers[place] = Some(self.failed(error.clone(), deadline));
                    }
                }
            }
        }
        let nowhere = || self.failed(PeerError::NoNode(L::ROLE), deadline);
        answers.into_iter().map(|answer| answer.unwrap_or_else(nowhere)).collect()
    }

    /// The items by their owners. Those of nobody are left out.
    fn shares<Q>(&self, items: Vec<Q>, most: usize, key: impl Fn(&Q) -> u64) -> Vec<Share<Q>> {
        let view = self.view();
        let mut shares: Vec<Share<Q>> = Vec::new();
        for (place, item) in items.into_iter().enumerate() {
            let Some(node) = view.owner(key(&item), 0) else { continue };
            let open = |share: &&mut Share<Q>| share.node == node && share.items.len() < most;
            match shares.iter_mut().find(open) {
                Some(share) => {
                    share.places.push(place);
                    share.items.push(item);
                }
                None => shares.push(Share { node, places: vec![place], items: vec![item] }),
            }
        }
        shares
    }

    /// What a failed first attempt comes to.
    pub(crate) fn failed<T>(&self, error: PeerError, deadline: Instant) -> First<T> {
        // The key says nothing about whether a failure is for good.
        match judge(To::Owner(0), Repeat::Harmless, error) {
            Attempt::Stop(error) => First::Failed(self.give_up(error)),
            failure => First::Again(Again { failure, deadline }),
        }
    }
}
