//! Brings the tables of an archive file up to date.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::error::classify;
use crate::archive::{ArchiveError, ArchiveResult};

/// Each version's statements; the file's `user_version` says how many it has had.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../../migrations/0001_archive.sql"),
    include_str!("../../../migrations/0002_shared_stores.sql"),
    include_str!("../../../migrations/0003_broadcast_jobs.sql"),
];

/// Applies what the file has not had yet. All of it happens under the write lock, because two processes may open a
/// new file at once; sqlx's own migrator takes no lock on SQLite.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> ArchiveResult<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(classify)?;
    match apply(connection).await {
        Ok(()) => sqlx::query("COMMIT").execute(connection).await.map(drop).map_err(classify),
        Err(e) => {
            let _ = sqlx::query("ROLLBACK").execute(connection).await;
            Err(e)
        }
    }
}

async fn apply(connection: &mut SqliteConnection) -> ArchiveResult<()> {
    let version: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(classify)?;
    let had = usize::try_from(version).unwrap_or(usize::MAX);
    let missing = MIGRATIONS.get(had..).ok_or_else(|| {
        let known = MIGRATIONS.len();
        ArchiveError::Corrupt(format!("its version is {version}, and this program knows up to {known}"))
    })?;
    for sql in missing {
        sqlx::raw_sql(*sql).execute(&mut *connection).await.map_err(classify)?;
    }
    if !missing.is_empty() {
        let sql = format!("PRAGMA user_version = {}", MIGRATIONS.len());
        sqlx::query(AssertSqlSafe(sql)).execute(connection).await.map_err(classify)?;
    }
    Ok(())
}
