//! Apps and API keys.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::App;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteArchive, commit::app_id, error::classify};
use crate::archive::{ApiKey, AppRefused, ArchiveResult, Revised as _};

const COLUMNS: &str = "SELECT id, key, token_secret, public_key_pem, webhook_secret, upstream_url, state_url, \
                       default_ttl_s, inbox_cap, pushes_per_second, revision, body FROM app WHERE revision > ? \
                       ORDER BY revision";

/// Makes the app's broadcast log unless it has one. Its epoch is that of the newest store: greater than that of any
/// log of an archive that was here before.
pub(super) async fn ensure_log(c: &mut SqliteConnection, app: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO broadcast_log (app, epoch, head) SELECT ?, value, 0 FROM counter WHERE name = 'epoch' \
         ON CONFLICT DO NOTHING",
    )
    .bind(app)
    .execute(c)
    .await
    .map(drop)
}

/// Stores an app under a new revision of the directory.
pub(super) async fn put_app(
    c: &mut SqliteConnection,
    app: &App,
) -> Result<Result<App, AppRefused>, sqlx::Error> {
    let id: i64 = match app.id {
        0 => sqlx::query_scalar("SELECT coalesce(max(id), 0) + 1 FROM app").fetch_one(&mut *c).await?,
        id => {
            let known: Option<i64> = sqlx::query_scalar("SELECT revision FROM app WHERE id = ?")
                .bind(id)
                .fetch_optional(&mut *c)
                .await?;
            match known {
                None => return Ok(Err(AppRefused::Unknown)),
                Some(known) if app.is_older_than(known.cast_unsigned()) => {
                    return Ok(Err(AppRefused::Changed));
                }
                Some(_) => id.into(),
            }
        }
    };
    let revision: i64 = sqlx::query_scalar(
        "UPDATE counter SET value = value + 1 WHERE name = 'app_revision' RETURNING value",
    )
    .fetch_one(&mut *c)
    .await?;
    let stored = App { id: app_id(id).0, revision: revision.cast_unsigned(), ..app.clone() };
    sqlx::query("INSERT OR REPLACE INTO app VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")
        .bind(id)
        .bind(&app.key)
        .bind(app.token_secret.to_vec())
        .bind(&app.public_key_pem)
        .bind(&app.webhook_secret)
        .bind(&app.upstream_url)
        .bind(&app.state_url)
        .bind(app.default_ttl_s)
        .bind(app.inbox_cap)
        .bind(app.pushes_per_second)
        .bind(revision)
        .bind(stored.encode_to_vec())
        .execute(&mut *c)
        .await?;
    ensure_log(c, id).await?;
    Ok(Ok(stored))
}

impl SqliteArchive {
    pub(super) async fn read_apps(&self, after_revision: u64) -> ArchiveResult<(Vec<App>, u64)> {
        let mut c = self.reader().await?;
        let rows = sqlx::query(COLUMNS)
            .bind(after_revision.cast_signed())
            .fetch_all(&mut *c)
            .await
            .map_err(classify)?;
        let apps: Vec<App> = rows.iter().map(app).collect::<Result<_, _>>().map_err(classify)?;
        // The newest app's revision and not the counter: an app that is committed between two statements would else
        // never be seen.
        let revision = apps.last().map_or(after_revision, |a| a.revision);
        Ok((apps, revision))
    }

    pub(super) async fn read_key(&self, hash: &[u8]) -> ArchiveResult<Option<ApiKey>> {
        let mut c = self.reader().await?;
        let row = sqlx::query("SELECT app, scopes, created FROM api_key WHERE hash = ?")
            .bind(hash.to_vec())
            .fetch_optional(&mut *c)
            .await
            .map_err(classify)?;
        row.map(|row| api_key(&row, hash)).transpose().map_err(classify)
    }
}

fn api_key(row: &SqliteRow, hash: &[u8]) -> Result<ApiKey, sqlx::Error> {
    let scopes: String = row.try_get(1)?;
    Ok(ApiKey {
        hash: Bytes::copy_from_slice(hash),
        app: app_id(row.try_get(0)?),
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        created_ms: row.try_get::<i64, _>(2)?.cast_unsigned(),
    })
}

fn app(row: &SqliteRow) -> Result<App, sqlx::Error> {
    if let Some(body) = row.try_get::<Option<Vec<u8>>, _>(11)? {
        return App::decode(&*body).map_err(|_| sqlx::Error::Decode("an app that cannot be read".into()));
    }
    Ok(App {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        token_secret: row.try_get::<Vec<u8>, _>(2)?.into(),
        public_key_pem: row.try_get(3)?,
        webhook_secret: row.try_get(4)?,
        upstream_url: row.try_get(5)?,
        state_url: row.try_get(6)?,
        default_ttl_s: row.try_get(7)?,
        inbox_cap: row.try_get(8)?,
        pushes_per_second: row.try_get(9)?,
        revision: row.try_get::<i64, _>(10)?.cast_unsigned(),
        // What was added since is in the body, which an app of the first version has not.
        ..App::default()
    })
}
