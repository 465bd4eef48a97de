//! What became of a message for each of its users.

use std::sync::Arc;

use futures::{Stream, stream};
use peers::TargetsPlace;
use proto::v1;

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// Users that are read at once: with the longest names 200 KiB, which is what one who reads slowly holds.
const PAGE: u32 = 1_000;

/// How far one has read.
enum At {
    Begin,
    Place(TargetsPlace),
    End,
}

impl Ops {
    /// Reads the users of a message over all shards, page by page: the next is read when this one was taken. The call keeps its
    /// place among the requests under way until its end.
    ///
    /// # Errors
    /// If there is no such message, or it is a broadcast, of which only sums are kept. After that the last page is an error if a saver did not answer.
    pub(crate) async fn list_targets(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        request: v1::ListTargetsRequest,
    ) -> Result<impl Stream<Item = Result<Vec<v1::Target>>> + Send + use<>> {
        let app = self.app(&caller, Scope::Read, &request.app).await?;
        let id = request.id;
        let found = self.peers.savers.ledger(app.id, id).await?;
        if found.broadcast.is_some() || found.counts.is_some() {
            let why = "a broadcast keeps no list of its users; its sums are at /v1/broadcasts";
            return Err(Error::WrongState(format!("{why}/{id}")));
        }
        if !found.found {
            return Err(Error::UnknownMessage { id });
        }
        let ops = Arc::clone(self);
        Ok(stream::unfold(At::Begin, move |at| {
            // The stream has the caller and its place for as long as it is.
            let (ops, app, _caller) = (Arc::clone(&ops), app.id, &caller);
            async move {
                let place = match at {
                    At::Begin => None,
                    At::Place(place) => Some(place),
                    At::End => return None,
                };
                match ops.peers.savers.targets(app, id, place, PAGE).await {
                    Ok(page) => {
                        let target =
                            |t: proto::internal::TargetState| v1::Target { uid: t.uid, state: t.state };
                        let targets = page.targets.into_iter().map(target).collect();
                        Some((Ok(targets), page.next.map_or(At::End, At::Place)))
                    }
                    Err(error) => Some((Err(error.into()), At::End)),
                }
            }
        }))
    }
}
