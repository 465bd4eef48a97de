//! What became of messages, and taking them back.

use proto::{
    internal::{self, App, LedgerResponse, Progress, RecallNotice},
    v1,
};

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::{Error, Result},
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
        let found = self.found(&app, id).await?;
        if let Some(broadcast) = &found.broadcast {
            let (progress, _) = self.progress(id).await;
            return Ok(ledger_of_broadcast(&app, broadcast, &progress, cluster::now_ms()));
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

    /// How far a broadcast has come.
    pub async fn broadcast_state(
        &self,
        caller: &Caller,
        request: v1::GetBroadcastRequest,
    ) -> Result<v1::BroadcastState> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let id = request.id;
        let found = self.found(&app, id).await?;
        let broadcast = found.broadcast.ok_or(Error::UnknownMessage { id })?;
        let (progress, rooms_missed) = self.progress(id).await;
        Ok(v1::BroadcastState {
            id,
            app: app.key.clone(),
            bseq: broadcast.bseq,
            audience: broadcast.audience,
            accepted_ms: broadcast.accepted_ms,
            expires_ms: broadcast.expires_ms,
            recalled: broadcast.recalled,
            targets: progress.targets,
            sent: progress.sent,
            acked: progress.acked,
            rooms_missed,
            ..Default::default()
        })
    }

    /// Takes a message back.
    pub async fn recall(&self, caller: &Caller, request: v1::RecallRequest) -> Result<v1::RecallResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let id = request.id;
        if self.found(&app, id).await?.broadcast.is_some() {
            let recalled = self.peers.savers.recall_broadcast(app.id, id).await?;
            let notified = self.tell_recall(&app, id, Vec::new()).await;
            return Ok(v1::RecallResponse { recalled: recalled.into(), notified });
        }
        let done = self.peers.savers.recall(app.id, id).await?;
        let recalled = done.recalled.len() as u64;
        // Who had not acked it may have it all the same: it is told too, if it is online.
        let mut uids = done.recalled;
        uids.extend(done.delivered);
        let mut notified = 0;
        while !uids.is_empty() {
            let rest = uids.split_off(uids.len().min(NOTICE_UIDS));
            notified += self.tell_recall(&app, id, uids).await;
            uids = rest;
        }
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

    async fn found(&self, app: &App, id: u64) -> Result<LedgerResponse> {
        let found = self.peers.savers.ledger(app.id, id).await?;
        if found.found { Ok(found) } else { Err(Error::UnknownMessage { id }) }
    }

    /// Summed over the rooms, and how many of them did not answer.
    async fn progress(&self, id: u64) -> (Progress, u32) {
        let told = self.peers.rooms.progress(&[id]).await;
        let missed = u32::try_from(told.missed.len()).unwrap_or(u32::MAX);
        (told.answer.into_iter().next().unwrap_or_default(), missed)
    }
}

/// A broadcast is stored once, in the log; its users are those that the rooms have met so far.
fn ledger_of_broadcast(
    app: &App,
    broadcast: &internal::StoredBroadcast,
    progress: &Progress,
    now_ms: u64,
) -> v1::MessageLedger {
    let waiting = progress.targets.saturating_sub(progress.acked);
    let (stored, expired, recalled) = match (broadcast.recalled, now_ms < broadcast.expires_ms) {
        (true, _) => (0, 0, waiting),
        (false, true) => (waiting, 0, 0),
        (false, false) => (0, waiting, 0),
    };
    v1::MessageLedger {
        id: broadcast.id,
        app: app.key.clone(),
        kind: "broadcast".to_owned(),
        accepted_ms: broadcast.accepted_ms,
        expires_ms: broadcast.expires_ms,
        targets: progress.targets.max(progress.acked),
        acked: progress.acked,
        stored,
        expired,
        dropped: Default::default(),
        recalled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broadcast whose time was over was said to be stored for those who had not acked it, for ever.
    #[test]
    fn the_ledger_of_a_broadcast_says_what_became_of_the_rest() {
        let progress = Progress { id: 7, targets: 10, sent: 8, acked: 6, ..Default::default() };
        let rest = |recalled, now_ms| {
            let broadcast =
                internal::StoredBroadcast { id: 7, expires_ms: 1_000, recalled, ..Default::default() };
            let ledger = ledger_of_broadcast(&App::default(), &broadcast, &progress, now_ms);
            assert_eq!(
                ledger.targets,
                ledger.acked + ledger.stored + ledger.expired + ledger.recalled,
                "it balances"
            );
            (ledger.stored, ledger.expired, ledger.recalled)
        };
        assert_eq!(rest(false, 999), (4, 0, 0));
        assert_eq!(rest(false, 1_000), (0, 4, 0));
        assert_eq!(rest(true, 1_000), (0, 0, 4));
    }
}
