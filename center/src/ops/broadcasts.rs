//! What has become of broadcasts.

use std::sync::Arc;

use proto::{
    internal::{App, JobState, LedgerResponse, ListJobsRequest},
    v1,
};

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::{Error, Result},
    jobs::{Snapshot, Wanted, Watch, head, is_arriving, state_of},
};

/// Broadcasts of one page, if the caller does not say, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

impl Ops {
    /// How far a broadcast has come.
    pub async fn broadcast_state(
        &self,
        caller: &Caller,
        request: v1::GetBroadcastRequest,
    ) -> Result<v1::BroadcastState> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let (snapshot, bseq) = self.snapshot(&app, request.id).await?;
        Ok(snapshot.to_state(&app, bseq))
    }

    /// The same, again whenever it changes. The stream has a place among those of the center.
    pub async fn watch_broadcast(&self, caller: &Caller, request: v1::GetBroadcastRequest) -> Result<Watch> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let found = self.jobs.watchers.look(Wanted { app: app.id, id: request.id }).await?;
        let (_, bseq) = self.placed(&app, request.id, found).await?;
        self.jobs.watchers.open(app, request.id, bseq)
    }

    /// An app's broadcasts, newest first. The counts of archive and rooms are read once, one after the other: those of a broadcast
    /// that is under way may tell a user twice or not at all. One that has just been released is done when it is for
    /// [`Ops::broadcast_state`].
    pub async fn list_broadcasts(
        &self,
        caller: &Caller,
        request: v1::ListBroadcastsRequest,
    ) -> Result<v1::ListBroadcastsResponse> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let limit = match request.limit {
            0 => PAGE,
            limit if limit <= PAGE_MAX => limit,
            limit => return Err(Error::invalid("limit", format!("is {limit}; it must be 1 to {PAGE_MAX}"))),
        };
        let list = ListJobsRequest { app: app.id, before_id: request.before_id, limit };
        let found = self.peers.savers.list_jobs(list).await?;
        let ids: Vec<_> = found.jobs.iter().map(|job| job.id).collect();
        let now_ms = self.jobs.reach.now_ms();
        let head = match found.jobs.iter().any(|job| is_arriving(job, now_ms)) {
            true => Some(head(&self.jobs.reach, app.id).await?),
            false => None,
        };
        let told = match ids.is_empty() {
            true => Default::default(),
            false => self.jobs.parts.progress_of(&ids, head).await,
        };
        let counts = found.counts.into_iter().chain(std::iter::repeat_with(Default::default));
        let states = found.jobs.into_iter().zip(counts).enumerate().map(|(at, (job, counts))| {
            let (before, arriving) = (counts.clone(), is_arriving(&job, now_ms) && !told.behind.is_empty());
            let mut read = Snapshot::of(job, &before, counts, told.sum(at), told.missed.clone());
            read.arriving = arriving;
            read.to_state(&app, 0)
        });
        Ok(v1::ListBroadcastsResponse { broadcasts: states.collect() })
    }

    /// A broadcast as it is now, and its place in the log if it has one.
    pub(super) async fn snapshot(&self, app: &App, id: u64) -> Result<(Snapshot, u64)> {
        let jobs = &self.jobs;
        let found = Snapshot::read(&jobs.reach, &jobs.parts, Wanted { app: app.id, id }).await?;
        self.placed(app, id, found).await
    }

    /// What was found as a job, or else in the log, and its place there.
    async fn placed(&self, app: &App, id: u64, found: Option<Snapshot>) -> Result<(Snapshot, u64)> {
        if let Some(snapshot) = found {
            // Only what was released whole has one place.
            let whole =
                snapshot.job.state() == JobState::Released && snapshot.job.users_per_second_asked == 0;
            let bseq = if whole { self.place(app, id).await? } else { 0 };
            return Ok((snapshot, bseq));
        }
        let found = self.peers.savers.ledger(app.id, id).await?;
        let LedgerResponse { broadcast: Some(broadcast), counts, .. } = found else {
            return Err(Error::UnknownMessage { id });
        };
        let bseq = broadcast.bseq;
        let snapshot = Snapshot::of_log(&self.jobs.parts, broadcast, counts.unwrap_or_default()).await;
        Ok((snapshot, bseq))
    }

    async fn place(&self, app: &App, id: u64) -> Result<u64> {
        let found = self.peers.savers.ledger(app.id, id).await?;
        Ok(found.broadcast.map_or(0, |broadcast| broadcast.bseq))
    }

    /// The ledger of a message that is a broadcast.
    pub(super) async fn ledger_of_broadcast(&self, app: &Arc<App>, id: u64) -> Result<v1::MessageLedger> {
        let (snapshot, _) = self.snapshot(app, id).await?;
        let state = state_of(app, &snapshot.job);
        Ok(v1::MessageLedger {
            id,
            app: state.app,
            kind: "broadcast".to_owned(),
            accepted_ms: state.accepted_ms,
            expires_ms: state.expires_ms,
            targets: snapshot.targets(),
            acked: snapshot.counts.acked,
            stored: snapshot.stored,
            expired: snapshot.counts.expired,
            dropped: snapshot.counts.dropped,
            recalled: snapshot.counts.recalled,
        })
    }
}
