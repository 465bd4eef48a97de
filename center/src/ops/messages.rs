//! What became of messages, and taking them back.

use cluster::{NodeId, Role};
use futures::future::join_all;
use peers::PeerError;
use proto::{
    internal::{App, RecallNotice, RecallRequest},
    v1,
};

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::{Error, Result},
    jobs::{Wanted, find, ring},
};

/// Users named in one notice of a recall: with the longest names well under the 4 MiB that a gRPC server takes.
const NOTICE_UIDS: usize = 10_000;
/// Users that a saver takes it back from in one call, a few thousand more included: with the longest names some 3 MB. A list may
/// have a million.
const RECALL_USERS: u32 = 20_000;

/// What taking back has done.
#[derive(Default)]
struct TakenBack {
    /// Users who may have it.
    users: u64,
    /// Those of them whose inbox still held it.
    recalled: u64,
    /// Connections that were told.
    notified: u64,
}

impl Ops {
    /// The ledger of a message.
    pub async fn message(
        &self,
        caller: &Caller,
        request: v1::GetMessageRequest,
    ) -> Result<v1::MessageLedger> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let id = request.id;
        let found = self.peers.savers.ledger(app.id, id).await?;
        if !found.found || found.broadcast.is_some() || found.counts.is_some() {
            // A broadcast that has not begun is in no log.
            return self.ledger_of_broadcast(&app, id).await;
        }
        Ok(v1::MessageLedger {
            id,
            app: app.key.clone(),
            kind: if found.multicast { "multicast" } else { "unicast" }.to_owned(),
            accepted_ms: found.accepted_ms,
            expires_ms: found.expires_ms,
            targets: found.targets,
            acked: found.acked,
            stored: found.stored,
            expired: found.expired,
            dropped: found.dropped,
            recalled: found.recalled,
        })
    }

    /// Takes a message back.
    pub async fn recall(&self, caller: &Caller, request: v1::RecallRequest) -> Result<v1::RecallResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let id = request.id;
        let found = self.peers.savers.ledger(app.id, id).await?;
        let job = match !found.found || found.broadcast.is_some() || found.counts.is_some() {
            true => find(&self.jobs.reach, Wanted { app: app.id, id }).await?,
            false => None,
        };
        if found.broadcast.is_some() || job.is_some() {
            // One transaction stops the job and empties the log of its slices.
            let logged = self.peers.savers.recall_broadcast(app.id, id).await?;
            let stopped = job.is_some_and(|(job, _)| !ring::has_ended(&job));
            self.jobs.known.note(id, false);
            let notified = self.tell_recall(&app, id, Vec::new()).await;
            return Ok(v1::RecallResponse { recalled: (logged || stopped).into(), notified });
        }
        // First what is still to be stored, so that none of it comes to an inbox after that: what is being sent, and what waits for
        // its time.
        let stopped = self.stop(app.id, id, true).await;
        let waiting = self.peers.savers.remove_scheduled(app.id, id, None).await?;
        let done = self.take_back(&app, id).await?;
        if !found.found && waiting == 0 && done.users == 0 {
            return Err(Error::UnknownMessage { id });
        }
        // Something may have been stored after all that: the same again finds it.
        stopped?;
        Ok(v1::RecallResponse { recalled: waiting + done.recalled, notified: done.notified })
    }

    /// Takes a message out of all inboxes, and has those told who may have it.
    ///
    /// # Errors
    /// If a saver did not do it; the others have.
    async fn take_back(&self, app: &App, id: u64) -> Result<TakenBack> {
        let shards = self.peers.savers.shards();
        if shards.is_empty() {
            return Err(PeerError::NoNode(Role::Saver).into());
        }
        let all = join_all(shards.into_iter().map(|shard| self.take_back_from(shard, app, id))).await;
        let mut sum = TakenBack::default();
        for done in all {
            let TakenBack { users, recalled, notified } = done?;
            sum.users += users;
            sum.recalled += recalled;
            sum.notified += notified;
        }
        Ok(sum)
    }

    async fn take_back_from(&self, shard: NodeId, app: &App, id: u64) -> Result<TakenBack> {
        let (mut sum, mut after) = (TakenBack::default(), Some(String::new()));
        while let Some(after_uid) = after.take() {
            let request = RecallRequest { app: app.id, id, after_uid, max_users: RECALL_USERS };
            let page = self.peers.savers.recall(shard, request).await?;
            sum.recalled += page.recalled.len() as u64;
            // Who had not acked it may have it all the same: it is told too, if it is online.
            let mut uids = page.recalled;
            uids.extend(page.delivered);
            sum.users += uids.len() as u64;
            while !uids.is_empty() {
                let rest = uids.split_off(uids.len().min(NOTICE_UIDS));
                sum.notified += self.tell_recall(app, id, uids).await;
                uids = rest;
            }
            after = page.next_uid;
        }
        Ok(sum)
    }

    /// Has the rooms tell these users; all of them if the list is empty.
    async fn tell_recall(&self, app: &App, id: u64, uids: Vec<String>) -> u64 {
        let notice = RecallNotice { app: app.id, id, uids };
        let told = self.peers.rooms.recall(notice).await;
        for (room, error) in &told.missed {
            tracing::warn!(app = app.id, id, %room, %error, "a room was not told of a recall");
        }
        // The inboxes are clean all the same: devices in that room only see the message longer.
        told.answer
    }
}
