//! The archive's seam, on MySQL.

use std::collections::HashMap;

use bytes::Bytes;
use proto::internal::{App, Job, ScheduledPush};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{
    MySqlArchive, Tries, broadcasts, commit, credits, deliveries, directory, jobs, reservations, schedule,
    shared, shared::Care, walks,
};
use crate::{
    archive::{
        ApiKey, Archive, ArchiveError, ArchiveResult, BroadcastPage, Committed, Counts, Group, Landing,
        LoggedBroadcast, PartDue, PartHead, PartName, ROW_BLOCK, Recorded, SharedLife, StoredPlace, Wanted,
    },
    model::{InboxKey, Row, Surviving},
};

/// Does a transaction, again if the server breaks it off in favour of another.
macro_rules! transaction {
    ($archive:expr, $work:expr) => {{
        let mut tries = Tries::new($archive);
        loop {
            if let Some(done) = tries.judge($archive.attempt($work).await).await {
                break done;
            }
        }
    }};
}

impl Archive for MySqlArchive {
    async fn begin_epoch(&self) -> ArchiveResult<Epoch> {
        let epoch = transaction!(self, async |c| Ok(shared::count(c, "epoch").await?))?;
        Ok(Epoch(epoch.cast_unsigned()))
    }

    async fn row_block(&self) -> ArchiveResult<Row> {
        let block = transaction!(self, async |c| Ok(shared::count(c, "row_block").await?))?;
        Ok(Row(-(block * ROW_BLOCK.cast_signed())))
    }

    async fn commit(&self, group: &Group) -> ArchiveResult<Committed> {
        transaction!(self, async |c| Ok(commit::write(c, group).await?))
    }

    async fn surviving(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Vec<Surviving>>> {
        self.read(async |c| deliveries::surviving(c, keys).await).await
    }

    async fn recorded(&self, wanted: &[Wanted]) -> ArchiveResult<Vec<Option<Recorded>>> {
        self.read(async |c| deliveries::recorded(c, wanted).await).await
    }

    async fn deliveries_of(&self, app: AppId, id: MessageId) -> ArchiveResult<(Vec<Recorded>, bool)> {
        self.read(async |c| deliveries::of_message(c, app, id).await).await
    }

    async fn payloads(&self, ids: &[MessageId]) -> ArchiveResult<HashMap<MessageId, Bytes>> {
        self.read(async |c| deliveries::payloads(c, ids).await).await
    }

    async fn greatest_id(&self) -> ArchiveResult<MessageId> {
        self.read(async |c| walks::greatest_id(c).await).await
    }

    async fn reserved_until(&self) -> ArchiveResult<u64> {
        self.read(async |c| reservations::until(c).await).await
    }

    async fn recently_stored(
        &self,
        after: MessageId,
        max: usize,
    ) -> ArchiveResult<(Vec<InboxKey>, Option<MessageId>)> {
        self.read(async |c| walks::recent(c, after, max).await).await
    }

    async fn cursors(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<Cursor>>> {
        self.read(async |c| broadcasts::cursors(c, keys).await).await
    }

    async fn broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> ArchiveResult<BroadcastPage> {
        self.read(async |c| broadcasts::page(c, app, after, max_messages, max_bytes, now_ms).await).await
    }

    async fn broadcast(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<LoggedBroadcast>> {
        self.read(async |c| broadcasts::one(c, app, id).await).await
    }

    async fn targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        max: usize,
    ) -> ArchiveResult<Vec<Recorded>> {
        self.read(async |c| schedule::targets(c, app, id, after_uid, max).await).await
    }

    async fn due(&self, now_ms: u64, after: Option<&PartDue>, max: usize) -> ArchiveResult<Vec<PartDue>> {
        self.read(async |c| schedule::due(c, now_ms, after, max).await).await
    }

    async fn scheduled_of(
        &self,
        app: AppId,
        after: Option<&PartDue>,
        max: usize,
    ) -> ArchiveResult<Vec<PartHead>> {
        self.read(async |c| schedule::of_app(c, app, after, max).await).await
    }

    async fn scheduled(&self, name: PartName) -> ArchiveResult<Option<ScheduledPush>> {
        self.read(async |c| schedule::one(c, name).await).await
    }

    async fn offsets(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<i16>>> {
        self.read(async |c| schedule::offsets(c, keys).await).await
    }

    async fn job(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<Job>> {
        self.read(async |c| jobs::read(c, app, id).await).await
    }

    async fn active_jobs(&self) -> ArchiveResult<Vec<Job>> {
        self.read(async |c| jobs::active(c).await).await
    }

    async fn jobs(&self, app: AppId, before: MessageId, max: usize) -> ArchiveResult<Vec<Job>> {
        self.read(async |c| jobs::of_app(c, app, before, max).await).await
    }

    async fn broadcast_counts(&self, app: AppId, ids: &[MessageId]) -> ArchiveResult<Vec<Option<Counts>>> {
        self.read(async |c| credits::counts(c, app, ids).await).await
    }

    async fn heads(&self, apps: &[AppId]) -> ArchiveResult<Vec<(AppId, Cursor)>> {
        self.read(async |c| broadcasts::heads(c, apps).await).await
    }

    async fn apps(&self, after_revision: u64) -> ArchiveResult<(Vec<App>, u64)> {
        self.read(async |c| directory::newer(c, after_revision).await).await
    }

    async fn find_key(&self, hash: &[u8]) -> ArchiveResult<Option<ApiKey>> {
        self.read(async |c| directory::find_key(c, hash).await).await
    }

    async fn expired(
        &self,
        after: Option<StoredPlace>,
        now_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<StoredPlace>)> {
        self.read(async |c| walks::stored(c, after, now_ms, max).await).await
    }

    async fn finished_unicast(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<Row>)> {
        self.read(async |c| walks::unicast(c, after, before_ms, max).await).await
    }

    async fn old_multicasts(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<MessageId>, Option<MessageId>)> {
        self.read(async |c| walks::multicasts(c, after, before_ms, max).await).await
    }

    async fn land(&self, landing: &Landing) -> ArchiveResult<()> {
        match transaction!(self, async |c| shared::land(c, landing, Care::Glance).await) {
            Err(ArchiveError::Conflict(_)) => {
                transaction!(self, async |c| shared::land(c, landing, Care::Lock).await)
            }
            done => done,
        }
    }

    async fn forgets(&self) -> ArchiveResult<u64> {
        self.read(async |c| shared::forgets(c).await).await
    }

    async fn shared_life(&self) -> ArchiveResult<Option<SharedLife>> {
        self.read(async |c| shared::life(c).await).await
    }

    async fn begin_shared_life(
        &self,
        from: Option<Epoch>,
        store: &str,
        partitions: u32,
    ) -> ArchiveResult<Option<SharedLife>> {
        transaction!(self, async |c| shared::begin_life(c, from, store, partitions).await)
    }
}
