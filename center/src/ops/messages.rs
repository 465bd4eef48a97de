//! What became of messages, and taking them back.

use proto::{
    internal::{App, RecallNotice},
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
        let done = self.peers.savers.recall(app.id, id).await?;
        let recalled = waiting + done.recalled.len() as u64;
        if !found.found && recalled == 0 && done.delivered.is_empty() {
            return Err(Error::UnknownMessage { id });
        }
        // Who had not acked it may have it all the same: it is told too, if it is online.
        let mut uids = done.recalled;
        uids.extend(done.delivered);
        let mut notified = 0;
        while !uids.is_empty() {
            let rest = uids.split_off(uids.len().min(NOTICE_UIDS));
            notified += self.tell_recall(&app, id, uids).await;
            uids = rest;
        }
        // Something may have been stored after all that: the same again finds it.
        stopped?;
        Ok(v1::RecallResponse { recalled, notified })
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
