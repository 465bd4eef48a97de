//! Writes broadcast logs.

use prost::Message as _;
use proto::internal::{Filter, ReleaseJobRequest};
use sqlx::{Row as _, SqliteConnection};
use wire::id::{AppId, Cursor, MessageId};

use super::{
    commit::{cursor, signed},
    deliveries::unsigned,
    directory, jobs,
};
use crate::archive::{
    NewBroadcast, Numbered,
    entries::{LoggedSlice, NewEntry},
};

/// Appends a broadcast that is one entry.
pub(super) async fn append(c: &mut SqliteConnection, b: &NewBroadcast) -> Result<Numbered, sqlx::Error> {
    directory::ensure_log(c, b.app.0.into()).await?;
    let known = sqlx::query(
        "SELECT l.epoch, e.bseq FROM broadcast_entry e JOIN broadcast_log l ON l.app = e.app \
         WHERE e.id = ? AND e.app = ? ORDER BY e.bseq LIMIT 1",
    )
    .bind(signed(b.id))
    .bind(b.app.0)
    .fetch_optional(&mut *c)
    .await?;
    if let Some(row) = known {
        return Ok(Numbered { place: cursor(&row, 0)?, repeated: true });
    }
    put_body(c, b.app, b.id, &b.audience, &b.payload).await?;
    Ok(Numbered { place: push(c, &NewEntry::whole(b)).await?, repeated: false })
}

/// What the entries of a broadcast share, and its counts.
pub(super) async fn put_body(
    c: &mut SqliteConnection,
    app: AppId,
    id: MessageId,
    audience: &str,
    payload: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO broadcast_body (id, app, audience, payload) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
    )
    .bind(signed(id))
    .bind(app.0)
    .bind(audience)
    .bind(payload.to_vec())
    .execute(&mut *c)
    .await?;
    let counts = "INSERT INTO broadcast_count (id, app, acked, expired, recalled, dropped) \
                  VALUES (?,?,0,0,0,0) ON CONFLICT DO NOTHING";
    sqlx::query(counts).bind(signed(id)).bind(app.0).execute(c).await.map(drop)
}

/// Puts an entry at the end of its log, which is made if need be.
pub(super) async fn push(c: &mut SqliteConnection, entry: &NewEntry<'_>) -> Result<Cursor, sqlx::Error> {
    directory::ensure_log(c, entry.app.0.into()).await?;
    let row = sqlx::query("UPDATE broadcast_log SET head = head + 1 WHERE app = ? RETURNING epoch, head")
        .bind(entry.app.0)
        .fetch_one(&mut *c)
        .await?;
    let place = cursor(&row, 0)?;
    sqlx::query(
        "INSERT INTO broadcast_entry (app, bseq, id, accepted, expires, recalled, slice_from, slice_to, filter) \
         VALUES (?,?,?,?,?,0,?,?,?)",
    )
    .bind(entry.app.0)
    .bind(place.bseq.0.cast_signed())
    .bind(signed(entry.id))
    .bind(entry.accepted_ms.cast_signed())
    .bind(entry.expires_ms.cast_signed())
    .bind(entry.slice.map(|(from, _)| from.cast_signed()))
    .bind(entry.slice.map(|(_, to)| to.cast_signed()))
    .bind(entry.filter.map(prost::Message::encode_to_vec))
    .execute(c)
    .await?;
    Ok(place)
}

/// The entry that is this part of a job.
pub(super) async fn slice(
    c: &mut SqliteConnection,
    r: &ReleaseJobRequest,
) -> Result<Option<LoggedSlice>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT l.epoch, e.bseq, e.accepted, e.expires, e.recalled FROM broadcast_entry e \
         JOIN broadcast_log l ON l.app = e.app WHERE e.id = ? AND e.slice_from = ? AND e.slice_to = ? AND e.app = ?",
    )
    .bind(r.id.cast_signed())
    .bind(r.from.cast_signed())
    .bind(r.to.cast_signed())
    .bind(r.app)
    .fetch_optional(c)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(LoggedSlice {
        place: cursor(&row, 0)?,
        accepted_ms: unsigned(&row, 2)?,
        expires_ms: unsigned(&row, 3)?,
        recalled: row.try_get(4)?,
    }))
}

/// Takes a broadcast back: all that is left of it in the log, and what its job would release.
pub(super) async fn recall(
    c: &mut SqliteConnection,
    app: AppId,
    id: MessageId,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let left = recall_entries(c, app, id, now_ms).await?;
    let mut stopped = false;
    if let Some(mut job) = jobs::load(c, app, id).await? {
        stopped = crate::archive::jobs::recall(&mut job, left, now_ms);
        if stopped {
            jobs::save(c, &job).await?;
        }
    }
    Ok(left || stopped)
}

pub(super) async fn recall_entries(
    c: &mut SqliteConnection,
    app: AppId,
    id: MessageId,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let sql = "UPDATE broadcast_entry SET recalled = 1 \
               WHERE id = ? AND app = ? AND recalled = 0 AND expires > ?";
    let query = sqlx::query(sql).bind(signed(id)).bind(app.0).bind(now_ms.cast_signed());
    Ok(query.execute(c).await?.rows_affected() > 0)
}

/// Forgets up to `max` entries that were over before a time, and as many jobs that had ended and have no entry left;
/// what entries share goes with the last of them. Answers how many of both are gone.
pub(super) async fn forget(c: &mut SqliteConnection, before_ms: u64, max: i64) -> Result<u64, sqlx::Error> {
    let mut ids: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM broadcast_entry WHERE (app, bseq) IN \
         (SELECT app, bseq FROM broadcast_entry WHERE expires < ? LIMIT ?) RETURNING id",
    )
    .bind(before_ms.cast_signed())
    .bind(max)
    .fetch_all(&mut *c)
    .await?;
    let mut gone = ids.len() as u64;
    let ended: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended > 0 AND ended < ? \
         AND NOT EXISTS (SELECT 1 FROM broadcast_entry e WHERE e.id = job.id) LIMIT ?) RETURNING id",
    )
    .bind(before_ms.cast_signed())
    .bind(max)
    .fetch_all(&mut *c)
    .await?;
    gone += ended.len() as u64;
    ids.extend(ended);
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let body = "DELETE FROM broadcast_body WHERE id = ?1 \
                    AND NOT EXISTS (SELECT 1 FROM broadcast_entry WHERE id = ?1) \
                    AND NOT EXISTS (SELECT 1 FROM job WHERE id = ?1)";
        if sqlx::query(body).bind(id).execute(&mut *c).await?.rows_affected() > 0 {
            sqlx::query("DELETE FROM broadcast_count WHERE id = ?").bind(id).execute(&mut *c).await?;
            sqlx::query("DELETE FROM broadcast_part WHERE id = ?").bind(id).execute(&mut *c).await?;
        }
    }
    Ok(gone)
}

/// A filter as stored.
pub(super) fn filter(bytes: Option<&[u8]>) -> Result<Option<Filter>, sqlx::Error> {
    bytes.map(|bytes| Filter::decode(bytes).map_err(|e| sqlx::Error::Decode(e.into()))).transpose()
}
