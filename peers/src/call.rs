//! One call: to the right node, again if it may be, within its time.

use std::{future::Future, sync::Arc};

use cluster::NodeId;
use flow::{Attempt, CallError, Retries};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::{
    PeerError,
    first::Again,
    links::{Links, To},
    wire::Line,
};

/// Whether doing a call twice is the same as doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is: try again within the deadline, even if it may have been done.
    Harmless,
    /// It is not: try again only what was certainly not done.
    Harmful,
    /// Do not try again: something else makes up for the loss.
    Needless,
}

impl<L: Line> Links<L> {
    /// Makes a call. Every attempt looks at the picture anew, so it goes to whoever is the owner then.
    pub(crate) async fn call<T, F, Fut>(&self, to: To, repeat: Repeat, op: F) -> Result<T, PeerError>
    where
        F: Fn(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let deadline = Instant::now() + self.limits().deadline;
        // Almost always the first attempt succeeds: what the others need is set up only if it does not.
        let result = match self.attempt(to, 0, deadline, &op).await {
            Ok(done) => return Ok(done),
            Err(error) => match judge(to, repeat, error) {
                Attempt::Stop(error) => Err(error),
                failure => Box::pin(self.again(to, repeat, deadline, failure, op)).await,
            },
        };
        result.map_err(|error| self.give_up(error))
    }

    /// Goes on with a call of which one attempt was made together with others, by [`Links::first`].
    pub(crate) async fn go_on<T, F, Fut>(
        &self,
        to: To,
        repeat: Repeat,
        again: Again,
        op: F,
    ) -> Result<T, PeerError>
    where
        F: Fn(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let Again { failure, deadline } = again;
        let result = Box::pin(self.again(to, repeat, deadline, failure, op)).await;
        result.map_err(|error| self.give_up(error))
    }

    async fn again<T, F, Fut>(
        &self,
        to: To,
        repeat: Repeat,
        deadline: Instant,
        mut failure: Attempt<PeerError>,
        op: F,
    ) -> Result<T, PeerError>
    where
        F: Fn(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let mut retries = Retries::new(self.limits().backoff(), deadline);
        loop {
            tokio::select! {
                biased;
                paused = self.pause(&mut retries, failure) => paused?,
                // Somebody else is to be asked now, and need not be spared for what its predecessor did.
                () = self.moved(to) => {}
            }
            match self.attempt(to, retries.attempt(), deadline, &op).await {
                Ok(done) => return Ok(done),
                Err(error) => failure = judge(to, repeat, error),
            }
        }
    }

    /// Waits for the next attempt, or answers why there is none.
    pub(crate) async fn pause(
        &self,
        retries: &mut Retries<PeerError>,
        failure: Attempt<PeerError>,
    ) -> Result<(), PeerError> {
        retries.pause(failure, self.cancel()).await.map_err(|e| PeerError::from_gave_up(L::ROLE, e))?;
        self.metrics().retried(L::ROLE);
        Ok(())
    }

    /// Counts a call that failed for good.
    pub(crate) fn give_up(&self, error: PeerError) -> PeerError {
        let error = match error {
            PeerError::NoNode(_) if self.cancel().is_cancelled() => PeerError::ShuttingDown,
            error => error,
        };
        self.metrics().failed(L::ROLE, &error);
        error
    }

    pub(crate) async fn attempt<T, F, Fut>(
        &self,
        to: To,
        attempt: u32,
        deadline: Instant,
        op: &F,
    ) -> Result<T, PeerError>
    where
        F: Fn(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let (node, line) = self.view().choose(to, attempt).ok_or(PeerError::NoNode(L::ROLE))?;
        match timeout_at(deadline, op(line)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(PeerError::from_call(L::ROLE, node, error)),
            Err(_) => Err(PeerError::deadline(L::ROLE)),
        }
    }

    /// Makes the same call to each of `nodes` at the same time; answers in their order.
    pub(crate) async fn call_each<T, F, Fut>(
        &self,
        nodes: Vec<NodeId>,
        op: F,
    ) -> Vec<(NodeId, Result<T, PeerError>)>
    where
        F: Fn(Arc<L>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let op = &op;
        let calls = nodes
            .into_iter()
            .map(|node| async move { (node, self.call(To::Node(node), Repeat::Harmless, op).await) });
        join_all(calls).await
    }
}

pub(crate) fn judge(to: To, repeat: Repeat, error: PeerError) -> Attempt<PeerError> {
    match (to, &error) {
        // A node that was named and is not there will not be replaced by another.
        (To::Node(_), PeerError::NoNode(_)) => Attempt::Stop(error),
        _ if repeat == Repeat::Needless => Attempt::Stop(error),
        _ => error.into_attempt(repeat == Repeat::Harmless),
    }
}
