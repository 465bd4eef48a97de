//! Taking back what is still being sent, at whichever center that is.

use cluster::{NodeId, NodeState, Role};
use futures::future::join_all;
use proto::internal::StopRequest;

use super::{Ops, letter::Letter};
use crate::{
    error::{Error, Result},
    under_way::Share,
};

impl Ops {
    /// The letter is about to be sent to a part of its users.
    ///
    /// # Errors
    /// [`Error::WrongState`]: it was taken back.
    pub(super) fn part_of(&self, letter: &Letter) -> Result<Share> {
        self.part(letter.app.id, letter.id).ok_or_else(taken_back)
    }

    /// A message is about to be sent to a part of its users; none if it was taken back a moment ago.
    pub(crate) fn part(&self, app: u32, id: u64) -> Option<Share> {
        self.under_way.part(app, id)
    }

    /// Refuses to go on with a list of an earlier call that was taken back since.
    pub(super) async fn refuse_recalled(&self, letter: &Letter) -> Result<()> {
        let known = self.peers.savers.ledger(letter.app.id, letter.id).await?;
        if known.recalled == 0 { Ok(()) } else { Err(taken_back()) }
    }

    /// Lets no center send a message to further users, and waits for those whose turn it was just now.
    ///
    /// # Errors
    /// [`Error::Full`]: that takes too long somewhere. What is done after this has to be done again then.
    pub(super) async fn stop(&self, app: u32, id: u64, recalled: bool) -> Result<()> {
        let me = self.cluster.me().id();
        let picture = self.cluster.now();
        let up = picture.of(Role::Center).filter(|center| center.state != NodeState::Down);
        let others: Vec<NodeId> = up.map(|center| center.id).filter(|center| *center != me).collect();
        let calls = others.into_iter().map(|center| async move {
            let request = StopRequest { app, id, recalled };
            let stopped = self.peers.centers.stop(center, request).await;
            stopped.unwrap_or_else(|error| {
                // Most likely it has died, and sends nothing any more.
                tracing::warn!(app, id, %center, %error, "a center was not told that a message is taken back");
                true
            })
        });
        let (here, others) = futures::join!(self.under_way.stop(app, id, recalled), join_all(calls));
        match here && others.into_iter().all(|quiet| quiet) {
            true => Ok(()),
            false => Err(Error::Full("parts of this message on their way")),
        }
    }
}

/// Why a list is not read on.
fn taken_back() -> Error {
    Error::WrongState("the message was taken back: it goes to no further users".to_owned())
}
