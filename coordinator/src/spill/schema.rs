//! The tables of the spill file.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::SpillError;

/// Version of the tables, kept in the file. A file of a later version is refused rather than misread.
const VERSION: i64 = 1;

/// `AUTOINCREMENT`, so that a row's number is never used again: a worker reads on after the last one it saw.
const TABLES: [&str; 4] = [
    "CREATE TABLE waiting (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        app INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        part INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        spilled_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        event BLOB NOT NULL
    )",
    "CREATE INDEX waiting_by_part ON waiting (app, kind, part, row)",
    "CREATE TABLE dead (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        app INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        spilled_ms INTEGER NOT NULL,
        died_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        reason TEXT NOT NULL,
        event BLOB NOT NULL
    )",
    "CREATE INDEX dead_by_app ON dead (app, kind, row)",
];

/// Makes the tables where they are missing, and deals the waiting events to `parts` workers.
pub(super) async fn prepare(connection: &mut SqliteConnection, parts: u16) -> Result<(), SpillError> {
    // Immediate, so that another process's lock is waited for; a lock that is taken later fails at once.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await?.try_get(0)?;
    match version {
        0 => {
            for table in TABLES {
                sqlx::query(table).execute(&mut *tx).await?;
            }
            sqlx::query("PRAGMA user_version = 1").execute(&mut *tx).await?;
        }
        VERSION => {}
        later => {
            let reason = format!("the file has version {later}, this program knows {VERSION}");
            return Err(SpillError(reason));
        }
    }
    // The number of workers may have been configured anew; a user's events stay together either way.
    sqlx::query("UPDATE waiting SET part = bucket % ?1 WHERE part <> bucket % ?1")
        .bind(i64::from(parts))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
