//! The spill queue in an SQLite file.

use std::{path::Path, sync::Arc, time::Duration};

use flow::{BatchLimits, Batcher, CallError, FlowMetrics, Full};
use futures::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Backlog, DeadLetter, Entry, Page, PartKey, RowId, Spill, SpillError, SpillResult, Unreadable, Waiting,
    schema,
    writes::{Rules, Write, Written, commit},
};
use crate::event::{Event, Kind, LaneKey};

/// Every worker has at most one write waiting, and thousands of workers may have one.
const QUEUED_WRITES: usize = 16_384;
/// Writes in one transaction: enough that a disk with 5 ms a sync commits 100,000 a second.
const GROUP_WRITES: usize = 512;
const GROUP_BYTES: usize = 4 << 20;
/// Reads are short and indexed; two keep one large app from holding up the others.
const READERS: u32 = 2;
/// Events in one read, if the bound in bytes allows: SQLite does not look for more than are asked for.
const READ_EVENTS: i64 = 256;
/// Another process must never have the file; if one has it for a moment (a backup), it is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The spill queue in an SQLite file: one writer that commits in groups, and a few readers.
pub(crate) struct SqliteSpill {
    writes: Batcher<Write, Written, SpillError>,
    readers: SqlitePool,
}

impl SqliteSpill {
    /// Opens the file, or makes it. The task ends with `cancel` and has then written everything that it had taken.
    pub(crate) async fn open(
        path: &Path,
        parts: u16,
        dead_letters: u32,
        metrics: &FlowMetrics,
        cancel: CancellationToken,
    ) -> Result<(SqliteSpill, JoinHandle<()>), SpillError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answered event must survive a loss of power, not only a crash of the process.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut writer = options.connect().await?;
        schema::prepare(&mut writer, parts).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        let limits = BatchLimits { queue_items: QUEUED_WRITES, batch_items: GROUP_WRITES, in_flight: 1 };
        let rules = Rules { parts, dead_letters };
        let writer = Arc::new(Mutex::new(writer));
        let (writes, task) = Batcher::builder("coordinator_spill", limits)
            .metrics(metrics)
            .weight(GROUP_BYTES, Write::weight)
            .spawn(cancel, move |writes| {
                let writer = writer.clone();
                // One group at a time is in flight, so nobody ever waits for the lock.
                async move {
                    commit(&mut *writer.lock().await, rules, writes).await.inspect_err(|error| {
                        // Said here, as nobody waits for most of the writes.
                        tracing::error!(%error, "the spill queue cannot be written");
                    })
                }
            });
        Ok((SqliteSpill { writes, readers }, task))
    }

    async fn write(&self, write: Write) -> Result<Written, SpillError> {
        self.writes.submit(write).await.map_err(|error| match error {
            CallError::Failed(error) => error,
            other => SpillError(other.to_string()),
        })
    }

    /// Waits only while the queue of writes is full.
    async fn write_soon(&self, write: Write) -> Result<(), SpillError> {
        match self.writes.offer(write) {
            Ok(_unawaited) => Ok(()),
            Err(Full(write)) => self.write(write).await.map(|_| ()),
        }
    }
}

impl Spill for SqliteSpill {
    fn append(&self, entries: Vec<Entry>) -> SpillResult<'_, Vec<RowId>> {
        Box::pin(async move {
            match self.write(Write::Append(entries)).await? {
                Written::Rows(rows) => Ok(rows),
                _ => Err(SpillError("an append answered something else".to_owned())),
            }
        })
    }

    fn read(&self, part: PartKey, after: RowId, bytes: usize) -> SpillResult<'_, Page> {
        Box::pin(async move {
            let mut rows = sqlx::query(
                "SELECT row, event, spilled_ms, attempts, refusals, bytes FROM waiting
                 WHERE app = ? AND kind = ? AND part = ? AND row > ? ORDER BY row LIMIT ?",
            )
            .bind(i64::from(part.lane.app))
            .bind(part.lane.kind.code())
            .bind(i64::from(part.part))
            .bind(after)
            .bind(READ_EVENTS)
            .fetch(&self.readers);
            let (mut page, mut size) = (Page::default(), 0);
            while size < bytes
                && let Some(row) = rows.try_next().await?
            {
                let number = row.try_get(0)?;
                page.last = Some(number);
                match waiting(part.lane.kind, &row) {
                    Ok(waiting) => {
                        size += waiting.event.bytes();
                        page.waiting.push(waiting);
                    }
                    Err(SpillError(why)) => {
                        let counted = row.try_get::<i64, _>(5)?.unsigned_abs();
                        size = size.saturating_add(usize::try_from(counted).unwrap_or(usize::MAX));
                        page.unreadable.push(Unreadable { row: number, bytes: counted, why });
                    }
                }
            }
            Ok(page)
        })
    }

    fn remove(&self, row: RowId) -> SpillResult<'_, ()> {
        Box::pin(self.write_soon(Write::Remove(row)))
    }

    fn count(&self, row: RowId, attempts: u32, refusals: u32) -> SpillResult<'_, ()> {
        Box::pin(self.write_soon(Write::Count { row, attempts, refusals }))
    }

    fn bury(&self, row: RowId, died_ms: u64, reason: String) -> SpillResult<'_, ()> {
        Box::pin(async move { self.write(Write::Bury { row, died_ms, reason }).await.map(|_| ()) })
    }

    fn flush(&self) -> SpillResult<'_, ()> {
        // Writes are done in their order, so one that does nothing is done when all before it are.
        Box::pin(async { self.write(Write::Append(Vec::new())).await.map(|_| ()) })
    }

    fn backlog(&self) -> SpillResult<'_, Vec<Backlog>> {
        Box::pin(async move {
            let query = "SELECT app, kind, COUNT(*), SUM(bytes) FROM waiting GROUP BY app, kind";
            let rows = sqlx::query(query).fetch_all(&self.readers).await?;
            let backlog = |row: &SqliteRow| {
                let (events, bytes): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
                Ok(Backlog { lane: lane_of(row)?, events: events as u64, bytes: bytes as u64 })
            };
            rows.iter().map(backlog).collect()
        })
    }

    fn dead(&self, app: u32, after: RowId, limit: u32) -> SpillResult<'_, Vec<DeadLetter>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT app, kind, row, event, spilled_ms, died_ms, attempts, reason FROM dead
                 WHERE app = ? AND row > ? ORDER BY row LIMIT ?",
            )
            .bind(i64::from(app))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
            rows.iter().map(dead_letter).collect()
        })
    }

    fn replay(&self, app: u32, up_to: RowId, now_ms: u64) -> SpillResult<'_, Vec<Backlog>> {
        Box::pin(async move {
            match self.write(Write::Replay { app, up_to, now_ms }).await? {
                Written::Replayed(lanes) => Ok(lanes),
                _ => Err(SpillError("a replay answered something else".to_owned())),
            }
        })
    }
}

fn waiting(kind: Kind, row: &SqliteRow) -> Result<Waiting, SpillError> {
    let event = Event::decode(kind, row.try_get(1)?).map_err(|error| SpillError(error.to_string()))?;
    Ok(Waiting {
        row: row.try_get(0)?,
        event,
        spilled_ms: row.try_get::<i64, _>(2)? as u64,
        attempts: row.try_get(3)?,
        refusals: row.try_get(4)?,
    })
}

fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, SpillError> {
    let kind = lane_of(row)?.kind;
    let bytes: &[u8] = row.try_get(3)?;
    Ok(DeadLetter {
        row: row.try_get(2)?,
        kind,
        event: Event::decode(kind, bytes).map_err(|_| bytes.to_vec()),
        spilled_ms: row.try_get::<i64, _>(4)? as u64,
        died_ms: row.try_get::<i64, _>(5)? as u64,
        attempts: row.try_get(6)?,
        reason: row.try_get(7)?,
    })
}

/// The lane that the first two columns name.
pub(super) fn lane_of(row: &SqliteRow) -> Result<LaneKey, SpillError> {
    let (app, code): (u32, i64) = (row.try_get(0)?, row.try_get(1)?);
    let kind = Kind::from_code(code).ok_or_else(|| SpillError(format!("{code} is no kind of event")))?;
    Ok(LaneKey { app, kind })
}

impl From<sqlx::Error> for SpillError {
    fn from(error: sqlx::Error) -> SpillError {
        SpillError(error.to_string())
    }
}

#[cfg(test)]
mod tests;
