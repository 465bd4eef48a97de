//! Writes of the spill queue, committed in groups.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{Backlog, Entry, RowId, SpillError, sqlite::lane_of};

/// One write. A group of them is one transaction, in their order.
#[derive(Debug)]
pub(super) enum Write {
    Append(Vec<Entry>),
    Remove(RowId),
    Count { row: RowId, attempts: u32, refusals: u32 },
    Bury { row: RowId, died_ms: u64, reason: String },
    Replay { app: u32, up_to: RowId, now_ms: u64 },
}

/// What a write answers once it is durable.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    Rows(Vec<RowId>),
    Done,
    Replayed(Vec<Backlog>),
}

impl Write {
    /// Bytes, to bound a group.
    pub(super) fn weight(&self) -> usize {
        match self {
            Write::Append(entries) => entries.iter().map(|entry| entry.event.bytes()).sum(),
            _ => 64,
        }
    }
}

/// What writing needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) parts: u16,
    pub(super) dead_letters: u32,
}

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    rules: Rules,
    writes: Vec<Write>,
) -> Result<Vec<Written>, SpillError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        answers.push(apply(&mut tx, rules, write).await?);
    }
    tx.commit().await?;
    Ok(answers)
}

async fn apply(c: &mut SqliteConnection, rules: Rules, write: Write) -> Result<Written, SpillError> {
    match write {
        Write::Append(entries) => {
            let mut rows = Vec::with_capacity(entries.len());
            for entry in entries {
                rows.push(append(c, rules, &entry).await?);
            }
            return Ok(Written::Rows(rows));
        }
        Write::Remove(row) => {
            sqlx::query("DELETE FROM waiting WHERE row = ?").bind(row).execute(c).await?;
        }
        Write::Count { row, attempts, refusals } => {
            sqlx::query("UPDATE waiting SET attempts = ?2, refusals = ?3 WHERE row = ?1")
                .bind(row)
                .bind(i64::from(attempts))
                .bind(i64::from(refusals))
                .execute(c)
                .await?;
        }
        Write::Bury { row, died_ms, reason } => bury(c, rules, row, died_ms, &reason).await?,
        Write::Replay { app, up_to, now_ms } => {
            return Ok(Written::Replayed(replay(c, rules, app, up_to, now_ms).await?));
        }
    }
    Ok(Written::Done)
}

async fn append(c: &mut SqliteConnection, rules: Rules, entry: &Entry) -> Result<RowId, SpillError> {
    let (lane, bucket) = (entry.event.lane(), entry.event.bucket());
    let result = sqlx::query(
        "INSERT INTO waiting (app, kind, part, bucket, bytes, spilled_ms, event) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(i64::from(lane.app))
    .bind(lane.kind.code())
    .bind(i64::from(bucket % rules.parts))
    .bind(i64::from(bucket))
    .bind(entry.event.bytes() as i64)
    .bind(entry.spilled_ms as i64)
    .bind(entry.event.encode())
    .execute(c)
    .await?;
    Ok(result.last_insert_rowid())
}

async fn bury(
    c: &mut SqliteConnection,
    rules: Rules,
    row: RowId,
    died_ms: u64,
    reason: &str,
) -> Result<(), SpillError> {
    let buried = sqlx::query(
        "INSERT INTO dead (app, kind, bucket, bytes, spilled_ms, died_ms, attempts, reason, event)
         SELECT app, kind, bucket, bytes, spilled_ms, ?2, attempts + refusals, ?3, event FROM waiting WHERE row = ?1
         RETURNING app, kind",
    )
    .bind(row)
    .bind(died_ms as i64)
    .bind(reason)
    .fetch_optional(&mut *c)
    .await?;
    sqlx::query("DELETE FROM waiting WHERE row = ?").bind(row).execute(&mut *c).await?;
    if let Some(buried) = buried {
        // The newest that are one too old, and all before them.
        sqlx::query(
            "DELETE FROM dead WHERE app = ?1 AND kind = ?2 AND row <=
             (SELECT row FROM dead WHERE app = ?1 AND kind = ?2 ORDER BY row DESC LIMIT 1 OFFSET ?3)",
        )
        .bind(buried.try_get::<i64, _>(0)?)
        .bind(buried.try_get::<i64, _>(1)?)
        .bind(i64::from(rules.dead_letters))
        .execute(c)
        .await?;
    }
    Ok(())
}

async fn replay(
    c: &mut SqliteConnection,
    rules: Rules,
    app: u32,
    up_to: RowId,
    now_ms: u64,
) -> Result<Vec<Backlog>, SpillError> {
    let lanes = sqlx::query(
        "SELECT app, kind, COUNT(*), SUM(bytes) FROM dead WHERE app = ? AND row <= ? GROUP BY app, kind",
    )
    .bind(i64::from(app))
    .bind(up_to)
    .fetch_all(&mut *c)
    .await?;
    sqlx::query(
        "INSERT INTO waiting (app, kind, part, bucket, bytes, spilled_ms, event)
         SELECT app, kind, bucket % ?3, bucket, bytes, ?4, event FROM dead WHERE app = ?1 AND row <= ?2 ORDER BY row",
    )
    .bind(i64::from(app))
    .bind(up_to)
    .bind(i64::from(rules.parts))
    .bind(now_ms as i64)
    .execute(&mut *c)
    .await?;
    sqlx::query("DELETE FROM dead WHERE app = ? AND row <= ?")
        .bind(i64::from(app))
        .bind(up_to)
        .execute(c)
        .await?;
    lanes
        .iter()
        .map(|row| {
            let (events, bytes): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
            Ok(Backlog { lane: lane_of(row)?, events: events as u64, bytes: bytes as u64 })
        })
        .collect()
}
