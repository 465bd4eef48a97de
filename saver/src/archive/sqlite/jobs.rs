//! Broadcast jobs.

use prost::Message as _;
use proto::internal::{ChangeJobRequest, Job, JobState, Part, ReleaseJobRequest};
use sqlx::{Row as _, SqliteConnection};
use wire::id::{AppId, MessageId};

use super::{SqliteArchive, commit::signed, error::classify, log};
use crate::archive::{
    ArchiveResult, JobWrite, JobWritten, MOST_JOBS,
    entries::{LoggedSlice, NewEntry},
    jobs::{self, MOST_ACTIVE},
};

impl SqliteArchive {
    pub(super) async fn read_job(&self, app: AppId, id: MessageId) -> ArchiveResult<Option<Job>> {
        let mut c = self.reader().await?;
        let with_payload = async {
            let Some(job) = load(&mut c, app, id).await? else { return Ok(None) };
            let (_, payload) = body(&mut c, id).await?;
            Ok(Some(Job { payload: payload.into(), ..job }))
        };
        with_payload.await.map_err(classify)
    }

    pub(super) async fn read_active_jobs(&self) -> ArchiveResult<Vec<Job>> {
        let mut c = self.reader().await?;
        let query = sqlx::query_scalar("SELECT body FROM job WHERE ended = 0 ORDER BY id LIMIT ?");
        let rows: Vec<Vec<u8>> = query.bind(MOST_ACTIVE).fetch_all(&mut *c).await.map_err(classify)?;
        rows.iter().map(|row| decode(row)).collect::<Result<_, _>>().map_err(classify)
    }

    pub(super) async fn read_jobs(
        &self,
        app: AppId,
        before: MessageId,
        max: usize,
    ) -> ArchiveResult<Vec<Job>> {
        let mut c = self.reader().await?;
        let query =
            sqlx::query_scalar("SELECT body FROM job WHERE app = ? AND id < ? ORDER BY id DESC LIMIT ?");
        let query = query.bind(app.0).bind(signed(before)).bind(max as i64);
        let rows: Vec<Vec<u8>> = query.fetch_all(&mut *c).await.map_err(classify)?;
        rows.iter().map(|row| decode(row)).collect::<Result<_, _>>().map_err(classify)
    }
}

pub(super) async fn write(
    c: &mut SqliteConnection,
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

async fn put(c: &mut SqliteConnection, job: &Job) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(job.app), MessageId(job.id));
    if let Some(known) = load(c, app, id).await? {
        return Ok(JobWritten::Stale(Box::new(known)));
    }
    let taken = sqlx::query("SELECT 1 FROM broadcast_body WHERE id = ?").bind(signed(id));
    if taken.fetch_optional(&mut *c).await?.is_some() {
        return Ok(JobWritten::IdTaken);
    }
    let active = "SELECT count(*) FROM (SELECT 1 FROM job WHERE app = ? AND ended = 0 LIMIT ?)";
    let active: i64 = sqlx::query_scalar(active).bind(app.0).bind(MOST_JOBS).fetch_one(&mut *c).await?;
    if active >= MOST_JOBS.into() {
        return Ok(JobWritten::TooMany);
    }
    log::put_body(c, app, id, &job.audience, &job.payload).await?;
    let job = jobs::body(job);
    save(c, &job).await?;
    Ok(JobWritten::Kept(Box::new(job)))
}

async fn change(
    c: &mut SqliteConnection,
    change: &ChangeJobRequest,
    now_ms: u64,
) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(change.app), MessageId(change.id));
    let Some(mut job) = load(c, app, id).await? else { return Ok(JobWritten::Unknown) };
    if !jobs::change(&mut job, change) {
        return Ok(JobWritten::Stale(Box::new(job)));
    }
    save(c, &job).await?;
    if change.state() == JobState::Recalled {
        log::recall_entries(c, app, id, now_ms).await?;
    }
    Ok(JobWritten::Kept(Box::new(job)))
}

async fn release(c: &mut SqliteConnection, r: &ReleaseJobRequest) -> Result<JobWritten, sqlx::Error> {
    let (app, id) = (AppId(r.app), MessageId(r.id));
    let Some(mut job) = load(c, app, id).await? else { return Ok(JobWritten::Unknown) };
    let known = log::slice(c, r).await?;
    let repeated = known.is_some();
    let slice = match known {
        Some(known) => known,
        None if !jobs::release(&mut job, r) => return Ok(JobWritten::Stale(Box::new(job))),
        None => {
            let place = log::push(c, &NewEntry::slice(r)).await?;
            save(c, &job).await?;
            LoggedSlice::new(place, r)
        }
    };
    Ok(slice.released(r, job, body(c, id).await?, repeated))
}

/// Keeps what a room has sent in one of its lives; it never falls. Of a broadcast that is not known any more nothing is
/// kept.
async fn note(c: &mut SqliteConnection, part: &Part) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO broadcast_part (id, room, incarnation, sent) \
         SELECT id, ?, ?, ? FROM broadcast_count WHERE id = ? AND app = ? \
         ON CONFLICT DO UPDATE SET sent = max(sent, excluded.sent)",
    )
    .bind(part.room)
    .bind(part.incarnation.cast_signed())
    .bind(part.sent.cast_signed())
    .bind(part.id.cast_signed())
    .bind(part.app)
    .execute(c)
    .await
    .map(drop)
}

/// A job without its payload.
pub(super) async fn load(
    c: &mut SqliteConnection,
    app: AppId,
    id: MessageId,
) -> Result<Option<Job>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT body FROM job WHERE id = ? AND app = ?");
    let row: Option<Vec<u8>> = query.bind(signed(id)).bind(app.0).fetch_optional(c).await?;
    row.map(|row| decode(&row)).transpose()
}

pub(super) async fn save(c: &mut SqliteConnection, job: &Job) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR REPLACE INTO job (id, app, ended, body) VALUES (?,?,?,?)")
        .bind(job.id.cast_signed())
        .bind(job.app)
        .bind(job.ended_ms.cast_signed())
        .bind(job.encode_to_vec())
        .execute(c)
        .await
        .map(drop)
}

/// Audience and payload of a broadcast.
async fn body(c: &mut SqliteConnection, id: MessageId) -> Result<(String, Vec<u8>), sqlx::Error> {
    let query = sqlx::query("SELECT audience, payload FROM broadcast_body WHERE id = ?");
    let row = query.bind(signed(id)).fetch_one(c).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn decode(body: &[u8]) -> Result<Job, sqlx::Error> {
    Job::decode(body).map_err(|e| sqlx::Error::Decode(e.into()))
}
