//! Apps and API keys.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::App;
use sqlx::{MySqlConnection, Row as _, mysql::MySqlRow};
use wire::id::AppId;

use super::rows::{text, unsigned};
use crate::archive::{ApiKey, AppRefused, Revised as _};

const NEWER: &str = "SELECT body FROM app WHERE revision > ? ORDER BY revision";

/// Makes the app's broadcast log unless it has one. Its epoch is that of the newest store: greater than that of any
/// log of an archive that was here before.
pub(super) async fn ensure_log(c: &mut MySqlConnection, app: AppId) -> Result<(), sqlx::Error> {
    // Asked first: an insert that finds its row would lock it, and almost all do.
    let known = sqlx::query("SELECT 1 FROM broadcast_log WHERE app = ?").bind(app.0);
    if known.fetch_optional(&mut *c).await?.is_some() {
        return Ok(());
    }
    sqlx::query(
        "INSERT IGNORE INTO broadcast_log (app, epoch, head) SELECT ?, value, 0 FROM counter WHERE name = 'epoch'",
    )
    .bind(app.0)
    .execute(c)
    .await
    .map(drop)
}

/// Stores an app under a new revision of the directory.
pub(super) async fn put_app(
    c: &mut MySqlConnection,
    app: &App,
) -> Result<Result<App, AppRefused>, sqlx::Error> {
    // The counter's lock orders all who change the directory, so revisions are committed in their order.
    let revision: i64 =
        sqlx::query_scalar("SELECT value FROM counter WHERE name = 'app_revision' FOR UPDATE")
            .fetch_one(&mut *c)
            .await?;
    let revision = revision + 1;
    let taken: Option<u32> = sqlx::query_scalar("SELECT id FROM app WHERE app_key = ?")
        .bind(app.key.as_bytes())
        .fetch_optional(&mut *c)
        .await?;
    if taken.is_some_and(|id| id != app.id) {
        return Ok(Err(AppRefused::KeyTaken));
    }
    let id = match app.id {
        0 => {
            let greatest: Option<u32> =
                sqlx::query_scalar("SELECT MAX(id) FROM app").fetch_one(&mut *c).await?;
            greatest.unwrap_or(0) + 1
        }
        id => {
            // As it is, and not as this transaction may have seen it before it had the counter's lock.
            let known: Option<i64> = sqlx::query_scalar("SELECT revision FROM app WHERE id = ? FOR UPDATE")
                .bind(id)
                .fetch_optional(&mut *c)
                .await?;
            match known {
                None => return Ok(Err(AppRefused::Unknown)),
                Some(known) if app.is_older_than(known.cast_unsigned()) => {
                    return Ok(Err(AppRefused::Changed));
                }
                Some(_) => id,
            }
        }
    };
    sqlx::query("UPDATE counter SET value = ? WHERE name = 'app_revision'")
        .bind(revision)
        .execute(&mut *c)
        .await?;
    let stored = App { id, revision: revision.cast_unsigned(), ..app.clone() };
    sqlx::query("REPLACE INTO app (id, app_key, revision, body) VALUES (?,?,?,?)")
        .bind(id)
        .bind(app.key.as_bytes())
        .bind(revision)
        .bind(stored.encode_to_vec())
        .execute(&mut *c)
        .await?;
    ensure_log(c, AppId(id)).await?;
    Ok(Ok(stored))
}

/// Stores an API key if its app exists.
pub(super) async fn put_key(c: &mut MySqlConnection, key: &ApiKey) -> Result<bool, sqlx::Error> {
    let app = sqlx::query("SELECT 1 FROM app WHERE id = ? FOR UPDATE").bind(key.app.0);
    if app.fetch_optional(&mut *c).await?.is_none() {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO api_key (hash, app, scopes, created) VALUES (?,?,?,?) \
         ON DUPLICATE KEY UPDATE scopes = VALUES(scopes)",
    )
    .bind(&*key.hash)
    .bind(key.app.0)
    .bind(key.scopes.join(" ").into_bytes())
    .bind(key.created_ms.cast_signed())
    .execute(c)
    .await?;
    Ok(true)
}

pub(super) async fn newer(c: &mut MySqlConnection, after: u64) -> Result<(Vec<App>, u64), sqlx::Error> {
    let rows = sqlx::query(NEWER).bind(after.cast_signed()).fetch_all(c).await?;
    let apps: Vec<App> = rows.iter().map(app).collect::<Result<_, _>>()?;
    // The newest app's revision and not the counter: an app that is committed between two statements would else
    // never be seen.
    let revision = apps.last().map_or(after, |a| a.revision);
    Ok((apps, revision))
}

pub(super) async fn find_key(c: &mut MySqlConnection, hash: &[u8]) -> Result<Option<ApiKey>, sqlx::Error> {
    let row = sqlx::query("SELECT app, scopes, created FROM api_key WHERE hash = ?")
        .bind(hash)
        .fetch_optional(c)
        .await?;
    let key = |row: MySqlRow| {
        Ok(ApiKey {
            hash: Bytes::copy_from_slice(hash),
            app: AppId(row.try_get(0)?),
            scopes: text(&row, 1)?.split_whitespace().map(str::to_owned).collect(),
            created_ms: unsigned(&row, 2)?,
        })
    };
    row.map(key).transpose()
}

fn app(row: &MySqlRow) -> Result<App, sqlx::Error> {
    let body: Vec<u8> = row.try_get(0)?;
    App::decode(&*body).map_err(|_| sqlx::Error::Decode("an app that cannot be read".into()))
}
