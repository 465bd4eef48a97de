//! Brings the tables up to date.
//!
//! Not sqlx's own migrator: MySQL commits after every change of a table, so a program that is killed half way leaves
//! work that the migrator then refuses to touch. Here each statement finds its own work done, and is done again.

use sqlx::{Executor as _, MySqlConnection};

use super::error::Failed;
use crate::archive::ArchiveError;

/// Each version's statements.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations-mysql/0001_archive.sql"),
    include_str!("../../../migrations-mysql/0002_broadcast_jobs.sql"),
];
/// How long to wait for another saver that does the same, in seconds.
const PATIENCE_S: i64 = 60;
/// Least size of a packet that the server must take: 16 MiB is what callers may send, and one is a row at the most.
pub(super) const LEAST_PACKET: u64 = 4 << 20;

/// Applies what the database has not had yet. `now_s` is the time, seconds since 1970.
pub(super) async fn migrate(c: &mut MySqlConnection, now_s: u64) -> Result<(), Failed> {
    let packet: u64 = sqlx::query_scalar("SELECT @@max_allowed_packet").fetch_one(&mut *c).await?;
    if packet < LEAST_PACKET {
        let text =
            format!("the server's max_allowed_packet is {packet}: raise it to {LEAST_PACKET} at least");
        return Err(Failed::Refused(ArchiveError::Io(text)));
    }
    // Locks of this kind belong to the server, not to the database.
    let lock = "SELECT GET_LOCK(CONCAT('longwire:', LEFT(DATABASE(), 50)), ?)";
    let held: Option<i64> = sqlx::query_scalar(lock).bind(PATIENCE_S).fetch_one(&mut *c).await?;
    if held != Some(1) {
        return Err(Failed::Refused(ArchiveError::Locked));
    }
    let done = apply(c, now_s).await;
    // The lock ends with the connection at the latest.
    let _ = c.execute("DO RELEASE_LOCK(CONCAT('longwire:', LEFT(DATABASE(), 50)))").await;
    done
}

async fn apply(c: &mut MySqlConnection, now_s: u64) -> Result<(), Failed> {
    c.execute("CREATE TABLE IF NOT EXISTS schema_version (version INT NOT NULL PRIMARY KEY) ENGINE=InnoDB")
        .await?;
    let version: Option<i32> =
        sqlx::query_scalar("SELECT MAX(version) FROM schema_version").fetch_one(&mut *c).await?;
    let version = version.unwrap_or(0);
    let missing = usize::try_from(version).ok().and_then(|had| MIGRATIONS.get(had..)).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let text = format!("its version is {version}, and this program knows up to {known}");
        Failed::Refused(ArchiveError::Corrupt(text))
    })?;
    for (number, sql) in (version + 1..).zip(missing) {
        for statement in sql.split(";\n").filter(|s| s.lines().any(|l| !l.is_empty() && !l.starts_with("--")))
        {
            match c.execute(statement).await {
                Err(e) if super::error::is_there(&e) => {}
                done => {
                    done?;
                }
            }
        }
        sqlx::query("INSERT INTO schema_version VALUES (?)").bind(number).execute(&mut *c).await?;
    }
    // Epochs begin at the clock, so that a database that was dropped and made anew does not repeat the old one's.
    let start = now_s.saturating_sub(wire::id::MessageId::EPOCH_MS / 1000).cast_signed();
    sqlx::query(
        "INSERT IGNORE INTO counter (name, value) VALUES \
         ('epoch', ?), ('row_block', 0), ('app_revision', 0), ('forgets', 0), ('forgotten', 0)",
    )
    .bind(start)
    .execute(c)
    .await?;
    Ok(())
}
