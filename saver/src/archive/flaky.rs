//! An archive that fails when a test wants it to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use proto::internal::{App, Job, ScheduledPush};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::*;
use crate::model::{InboxKey, Row, Surviving};

/// The next commit's fault: whether it is done all the same, and the error that is answered.
pub(crate) type Fault = Arc<Mutex<Option<(bool, ArchiveError)>>>;

/// Another archive, with faults.
pub(crate) struct Flaky<A> {
    pub(crate) archive: A,
    pub(crate) fault: Fault,
}

impl<A: Archive> Archive for Flaky<A> {
    async fn begin_epoch(&self) -> ArchiveResult<Epoch> {
        self.archive.begin_epoch().await
    }

    async fn row_block(&self) -> ArchiveResult<Row> {
        self.archive.row_block().await
    }

    async fn commit(&self, group: &Group) -> ArchiveResult<Committed> {
        let fault = std::mem::take(&mut *self.fault.lock().unwrap_or_else(PoisonError::into_inner));
        match fault {
            None => self.archive.commit(group).await,
            Some((false, error)) => Err(error),
            Some((true, error)) => self.archive.commit(group).await.and(Err(error)),
        }
    }

    async fn surviving(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Vec<Surviving>>> {
        self.archive.surviving(keys).await
    }

    async fn recorded(&self, wanted: &[Wanted]) -> ArchiveResult<Vec<Option<Recorded>>> {
        self.archive.recorded(wanted).await
    }

    async fn deliveries_of(&self, app: AppId, id: MessageId) -> ArchiveResult<(Vec<Recorded>, bool)> {
        self.archive.deliveries_of(app, id).await
    }

    async fn payloads(&self, ids: &[MessageId]) -> ArchiveResult<HashMap<MessageId, Bytes>> {
        self.archive.payloads(ids).await
    }

    async fn greatest_id(&self) -> ArchiveResult<MessageId> {
        self.archive.greatest_id().await
    }

    async fn reserved_until(&self) -> ArchiveResult<u64> {
        self.archive.reserved_until().await
    }

    async fn recently_stored(
        &self,
        after: MessageId,
        max: usize,
    ) -> ArchiveResult<(Vec<InboxKey>, Option<MessageId>)> {
        self.archive.recently_stored(after, max).await
    }

    async fn cursors(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<Cursor>>> {
        self.archive.cursors(keys).await
    }

    async fn broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> ArchiveResult<BroadcastPage> {
        self.archive.broadcasts(app, after, max_messages, max_bytes, now_ms).await
    }

    async fn broadcast(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<LoggedBroadcast>> {
        self.archive.broadcast(app, id).await
    }

    async fn job(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<Job>> {
        self.archive.job(app, id).await
    }

    async fn active_jobs(&self) -> ArchiveResult<Vec<Job>> {
        self.archive.active_jobs().await
    }

    async fn jobs(&self, app: AppId, before: MessageId, max: usize) -> ArchiveResult<Vec<Job>> {
        self.archive.jobs(app, before, max).await
    }

    async fn broadcast_counts(&self, app: AppId, ids: &[MessageId]) -> ArchiveResult<Vec<Option<Counts>>> {
        self.archive.broadcast_counts(app, ids).await
    }

    async fn targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        max: usize,
    ) -> ArchiveResult<Vec<Recorded>> {
        self.archive.targets(app, id, after_uid, max).await
    }

    async fn due(&self, now_ms: u64, after: Option<&PartDue>, max: usize) -> ArchiveResult<Vec<PartDue>> {
        self.archive.due(now_ms, after, max).await
    }

    async fn scheduled_of(
        &self,
        app: AppId,
        after: Option<&PartDue>,
        max: usize,
    ) -> ArchiveResult<Vec<PartHead>> {
        self.archive.scheduled_of(app, after, max).await
    }

    async fn scheduled(&self, name: PartName) -> ArchiveResult<Option<ScheduledPush>> {
        self.archive.scheduled(name).await
    }

    async fn offsets(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<i16>>> {
        self.archive.offsets(keys).await
    }

    async fn heads(&self, apps: &[AppId]) -> ArchiveResult<Vec<(AppId, Cursor)>> {
        self.archive.heads(apps).await
    }

    async fn apps(&self, after_revision: u64) -> ArchiveResult<(Vec<App>, u64)> {
        self.archive.apps(after_revision).await
    }

    async fn find_key(&self, hash: &[u8]) -> ArchiveResult<Option<ApiKey>> {
        self.archive.find_key(hash).await
    }

    async fn expired(
        &self,
        after: Option<StoredPlace>,
        now_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<StoredPlace>)> {
        self.archive.expired(after, now_ms, max).await
    }

    async fn finished_unicast(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<Row>)> {
        self.archive.finished_unicast(after, before_ms, max).await
    }

    async fn old_multicasts(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<MessageId>, Option<MessageId>)> {
        self.archive.old_multicasts(after, before_ms, max).await
    }

    async fn land(&self, landing: &Landing) -> ArchiveResult<()> {
        self.archive.land(landing).await
    }

    async fn forgets(&self) -> ArchiveResult<u64> {
        self.archive.forgets().await
    }

    async fn shared_life(&self) -> ArchiveResult<Option<SharedLife>> {
        self.archive.shared_life().await
    }

    async fn begin_shared_life(
        &self,
        from: Option<Epoch>,
        store: &str,
        partitions: u32,
    ) -> ArchiveResult<Option<SharedLife>> {
        self.archive.begin_shared_life(from, store, partitions).await
    }
}
