//! The archive's seam, on SQLite.

use std::collections::HashMap;

use bytes::Bytes;
use proto::internal::{App, Job, ScheduledPush};
use sqlx::SqliteConnection;
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{SqliteArchive, bulk, commit, error, newcomers, statement::execute};
use crate::{
    archive::{
        ApiKey, Archive, ArchiveResult, BroadcastPage, Committed, Counts, Group, Landing, LoggedBroadcast,
        PartDue, PartHead, PartName, ROW_BLOCK, Recorded, SharedLife, StoredPlace, Wanted,
    },
    model::{InboxKey, Row, Surviving},
};

pub(super) async fn count(c: &mut SqliteConnection, name: &'static str) -> Result<i64, sqlx::Error> {
    let sql = "UPDATE counter SET value = value + 1 WHERE name = ? RETURNING value";
    sqlx::query_scalar(sql).bind(name).fetch_one(c).await
}

impl Archive for SqliteArchive {
    async fn begin_epoch(&self) -> ArchiveResult<Epoch> {
        let epoch = self.transaction(async |c| count(c, "epoch").await).await?;
        Ok(Epoch(epoch.cast_unsigned()))
    }

    async fn row_block(&self) -> ArchiveResult<Row> {
        let block = self.transaction(async |c| count(c, "row_block").await).await?;
        Ok(Row(-(block * ROW_BLOCK.cast_signed())))
    }

    async fn commit(&self, group: &Group) -> ArchiveResult<Committed> {
        if bulk::is_all(group) {
            let pieces = bulk::pieces(group).map_err(error::classify)?;
            self.write(async |c| execute(c, pieces, true).await).await?;
            return Ok(Committed::default());
        }
        if bulk::is_newcomers(group)
            && let Some(newcomers) =
                self.write(async |c| newcomers::begin_alone(c, &group.newcomers).await).await?
        {
            return Ok(Committed { newcomers, ..Committed::default() });
        }
        self.transaction(async |c| commit::write(c, group).await).await
    }

    async fn surviving(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Vec<Surviving>>> {
        self.read_surviving(keys).await
    }

    async fn recorded(&self, wanted: &[Wanted]) -> ArchiveResult<Vec<Option<Recorded>>> {
        self.read_recorded(wanted).await
    }

    async fn deliveries_of(&self, app: AppId, id: MessageId) -> ArchiveResult<(Vec<Recorded>, bool)> {
        self.read_deliveries(app, id).await
    }

    async fn payloads(&self, ids: &[MessageId]) -> ArchiveResult<HashMap<MessageId, Bytes>> {
        self.read_payloads(ids).await
    }

    async fn greatest_id(&self) -> ArchiveResult<MessageId> {
        self.read_greatest_id().await
    }

    async fn reserved_until(&self) -> ArchiveResult<u64> {
        self.read_reserved_until().await
    }

    async fn recently_stored(
        &self,
        after: MessageId,
        max: usize,
    ) -> ArchiveResult<(Vec<InboxKey>, Option<MessageId>)> {
        self.walk_recent(after, max).await
    }

    async fn cursors(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<Cursor>>> {
        self.read_cursors(keys).await
    }

    async fn broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> ArchiveResult<BroadcastPage> {
        self.read_broadcasts(app, after, max_messages, max_bytes, now_ms).await
    }

    async fn broadcast(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<LoggedBroadcast>> {
        self.read_broadcast(app, id).await
    }

    async fn targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        max: usize,
    ) -> ArchiveResult<Vec<Recorded>> {
        self.read_targets(app, id, after_uid, max).await
    }

    async fn due(&self, now_ms: u64, after: Option<&PartDue>, max: usize) -> ArchiveResult<Vec<PartDue>> {
        self.read_due(now_ms, after, max).await
    }

    async fn scheduled_of(
        &self,
        app: AppId,
        after: Option<&PartDue>,
        max: usize,
    ) -> ArchiveResult<Vec<PartHead>> {
        self.read_scheduled_of(app, after, max).await
    }

    async fn scheduled(&self, name: PartName) -> ArchiveResult<Option<ScheduledPush>> {
        self.read_scheduled(name).await
    }

    async fn offsets(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<i16>>> {
        self.read_offsets(keys).await
    }

    async fn job(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<Job>> {
        self.read_job(app, id).await
    }

    async fn active_jobs(&self) -> ArchiveResult<Vec<Job>> {
        self.read_active_jobs().await
    }

    async fn jobs(&self, app: AppId, before: MessageId, max: usize) -> ArchiveResult<Vec<Job>> {
        self.read_jobs(app, before, max).await
    }

    async fn broadcast_counts(&self, app: AppId, ids: &[MessageId]) -> ArchiveResult<Vec<Option<Counts>>> {
        self.read_counts(app, ids).await
    }

    async fn heads(&self, apps: &[AppId]) -> ArchiveResult<Vec<(AppId, Cursor)>> {
        self.read_heads(apps).await
    }

    async fn apps(&self, after_revision: u64) -> ArchiveResult<(Vec<App>, u64)> {
        self.read_apps(after_revision).await
    }

    async fn find_key(&self, hash: &[u8]) -> ArchiveResult<Option<ApiKey>> {
        self.read_key(hash).await
    }

    async fn expired(
        &self,
        after: Option<StoredPlace>,
        now_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<StoredPlace>)> {
        self.walk_stored(after, now_ms, max).await
    }

    async fn finished_unicast(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<Row>)> {
        self.walk_unicast(after, before_ms, max).await
    }

    async fn old_multicasts(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<MessageId>, Option<MessageId>)> {
        self.walk_multicasts(after, before_ms, max).await
    }

    async fn land(&self, landing: &Landing) -> ArchiveResult<()> {
        self.write_landing(landing).await
    }

    async fn forgets(&self) -> ArchiveResult<u64> {
        self.read_forgets().await
    }

    async fn shared_life(&self) -> ArchiveResult<Option<SharedLife>> {
        self.read_life().await
    }

    async fn begin_shared_life(
        &self,
        from: Option<Epoch>,
        store: &str,
        partitions: u32,
    ) -> ArchiveResult<Option<SharedLife>> {
        self.begin_life(from, store, partitions).await
    }
}
