//! Broadcast jobs.

use prost::Message as _;
use proto::internal::{ChangeJobRequest, Job, JobState, Part, ReleaseJobRequest};
use sqlx::{MySqlConnection, Row as _};
use wire::id::{AppId, MessageId};

use super::{
    log,
    rows::{signed, text},
};
use crate::archive::{
    JobWrite, JobWritten, MOST_JOBS,
    entries::{LoggedSlice, NewEntry},
    jobs::{self, MOST_ACTIVE},
};

/// A job with its payload.
pub(super) async fn read(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
) -> Result<Option<Job>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT body FROM job WHERE id = ? AND app = ?");
    let row: Option<Vec<u8>> = query.bind(signed(id)).bind(app.0).fetch_optional(&mut *c).await?;
    let Some(row) = row else { return Ok(None) };
    let (_, payload) = body(c, id).await?;
    Ok(Some(Job { payload: payload.into(), ..decode(&row)? }))
}

pub(super) async fn active(c: &mut MySqlConnection) -> Result<Vec<Job>, sqlx::Error> {
    let sql = "SELECT body FROM job FORCE INDEX (ended) WHERE ended = 0 ORDER BY id LIMIT ?";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(MOST_ACTIVE).fetch_all(c).await?;
    rows.iter().map(|row| decode(row)).collect()
}

pub(super) async fn of_app(
    c: &mut MySqlConnection,
    app: AppId,
    before: MessageId,
    max: usize,
) -> Result<Vec<Job>, sqlx::Error> {
    let sql = "SELECT body FROM job FORCE INDEX (of_app) WHERE app = ? AND id < ? ORDER BY id DESC LIMIT ?";
    let query = sqlx::query_scalar(sql).bind(app.0).bind(signed(before)).bind(max as i64);
    let rows: Vec<Vec<u8>> = query.fetch_all(c).await?;
    rows.iter().map(|row| decode(row)).collect()
}

pub(super) async fn write(
    c: &mut MySqlConnection,
    write: &JobWrite,
    now_ms: u64,
) -> Result<JobWritten, sqlx::Error> {
    match write {
        JobWrite::Put(job) => put(c, job).await,
        JobWrite::Change(change) => self::change(c, change, now_ms).await,
        JobWrite::Release(slice) => release(c, slice).await,
        JobWrite::Parts(parts) => {
            for part in parts {
                note(c, part).await?;
            }
            Ok(JobWritten::Noted)
        }
    }
}

async fn put(c: &mut MySqlConnection, job: &Job) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(job.app), MessageId(job.id));
    // The log's lock orders those who put jobs of one app.
    log::lock(c, app).await?;
    if let Some(known) = lock(c, app, id).await? {
        return Ok(JobWritten::Stale(Box::new(known)));
    }
    let taken = sqlx::query("SELECT 1 FROM broadcast_body WHERE id = ?").bind(signed(id));
    if taken.fetch_optional(&mut *c).await?.is_some() {
        return Ok(JobWritten::IdTaken);
    }
    let active = "SELECT COUNT(*) FROM job FORCE INDEX (ended) WHERE ended = 0 AND app = ?";
    let active: i64 = sqlx::query_scalar(active).bind(app.0).fetch_one(&mut *c).await?;
    if active >= MOST_JOBS.into() {
        return Ok(JobWritten::TooMany);
    }
    log::put_body(c, app, id, &job.audience, &job.payload).await?;
    let job = jobs::body(job);
    save(c, &job).await?;
    Ok(JobWritten::Kept(Box::new(job)))
}

async fn change(
    c: &mut MySqlConnection,
    change: &ChangeJobRequest,
    now_ms: u64,
) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(change.app), MessageId(change.id));
    let Some(mut job) = lock(c, app, id).await? else { return Ok(JobWritten::Unknown) };
    if !jobs::change(&mut job, change) {
        return Ok(JobWritten::Stale(Box::new(job)));
    }
    save(c, &job).await?;
    if change.state() == JobState::Recalled {
        log::recall_entries(c, app, id, now_ms).await?;
    }
    Ok(JobWritten::Kept(Box::new(job)))
}

async fn release(c: &mut MySqlConnection, r: &ReleaseJobRequest) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(r.app), MessageId(r.id));
    let Some(mut job) = lock(c, app, id).await? else { return Ok(JobWritten::Unknown) };
    let known = log::slice(c, r).await?;
    let repeated = known.is_some();
    let slice = match known {
        Some(known) => known,
        None if !jobs::release(&mut job, r) => return Ok(JobWritten::Stale(Box::new(job))),
        None => {
            let head = log::lock(c, app).await?;
            let place = log::push(c, &NewEntry::slice(r), head).await?;
            save(c, &job).await?;
            LoggedSlice::new(place, r)
        }
    };
    Ok(slice.released(r, job, body(c, id).await?, repeated))
}

/// Keeps what a room has sent in one of its lives; it never falls. Of a broadcast that is not known any more nothing is
/// kept.
async fn note(c: &mut MySqlConnection, part: &Part) -> Result<(), sqlx::Error> {
    let known = sqlx::query("SELECT 1 FROM broadcast_count WHERE id = ? AND app = ?");
    if known.bind(part.id.cast_signed()).bind(part.app).fetch_optional(&mut *c).await?.is_none() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO broadcast_part (id, room, incarnation, sent) VALUES (?,?,?,?) \
         ON DUPLICATE KEY UPDATE sent = GREATEST(sent, VALUES(sent))",
    )
    .bind(part.id.cast_signed())
    .bind(part.room)
    .bind(part.incarnation.cast_signed())
    .bind(part.sent.cast_signed())
    .execute(c)
    .await
    .map(drop)
}

/// A job without its payload, locked.
pub(super) async fn lock(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
) -> Result<Option<Job>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT body FROM job WHERE id = ? AND app = ? FOR UPDATE");
    let row: Option<Vec<u8>> = query.bind(signed(id)).bind(app.0).fetch_optional(c).await?;
    row.map(|row| decode(&row)).transpose()
}

pub(super) async fn save(c: &mut MySqlConnection, job: &Job) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO job (id, app, ended, body) VALUES (?,?,?,?) \
         ON DUPLICATE KEY UPDATE ended = VALUES(ended), body = VALUES(body)",
    )
    .bind(job.id.cast_signed())
    .bind(job.app)
    .bind(job.ended_ms.cast_signed())
    .bind(job.encode_to_vec())
    .execute(c)
    .await
    .map(drop)
}

/// Audience and payload of a broadcast.
async fn body(c: &mut MySqlConnection, id: MessageId) -> Result<(String, Vec<u8>), sqlx::Error> {
    let query = sqlx::query("SELECT audience, payload FROM broadcast_body WHERE id = ?");
    let row = query.bind(signed(id)).fetch_one(c).await?;
    Ok((text(&row, 0)?, row.try_get(1)?))
}

fn decode(body: &[u8]) -> Result<Job, sqlx::Error> {
    Job::decode(body).map_err(|e| sqlx::Error::Decode(e.into()))
}
