//! Landing of journals, and lives of a shared inbox store.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection};
use wire::id::{Epoch, MessageId};

use super::{
    SqliteArchive, bulk, commit,
    deliveries::unsigned,
    error::classify,
    statement::{Shape, Values, execute, parts},
    store::count,
};
use crate::{
    archive::{
        ArchiveError, ArchiveResult, Forget, Landing, SharedLife,
        shared::{LIFE_CHANGED, OUTDATED},
    },
    model::{Row, State},
};

static STATES: Shape = Shape::new("SELECT id, state FROM delivery WHERE id IN (", "?", ")");
const LIFE: &str = "SELECT epoch, store, partitions, unseen FROM shared_life";

impl SqliteArchive {
    pub(super) async fn write_landing(&self, landing: &Landing) -> ArchiveResult<()> {
        let refused = self.transaction(async |c| land(c, landing).await).await?;
        refused.map_or(Ok(()), |reason| Err(ArchiveError::Conflict(reason.to_owned())))
    }

    pub(super) async fn read_forgets(&self) -> ArchiveResult<u64> {
        let mut c = self.reader().await?;
        Ok(counter(&mut c, "forgets").await.map_err(classify)?.cast_unsigned())
    }

    pub(super) async fn read_reserved_until(&self) -> ArchiveResult<u64> {
        let mut c = self.reader().await?;
        let until: Option<i64> = sqlx::query_scalar("SELECT max(expires) FROM reservation")
            .fetch_one(&mut *c)
            .await
            .map_err(classify)?;
        Ok(until.unwrap_or(0).cast_unsigned())
    }

    pub(super) async fn read_life(&self) -> ArchiveResult<Option<SharedLife>> {
        let mut c = self.reader().await?;
        life(&mut c).await.map_err(classify)
    }

    pub(super) async fn begin_life(
        &self,
        from: Option<Epoch>,
        store: &str,
        partitions: u32,
    ) -> ArchiveResult<Option<SharedLife>> {
        let begin = async |c: &mut SqliteConnection| {
            if life(c).await?.map(|l| l.epoch) != from {
                return Ok(None);
            }
            let epoch = count(c, "epoch").await?;
            sqlx::query("INSERT OR REPLACE INTO shared_life VALUES (1, ?, ?, ?, 0)")
                .bind(epoch)
                .bind(store)
                .bind(partitions)
                .execute(&mut *c)
                .await?;
            let epoch = Epoch(epoch.cast_unsigned());
            Ok(Some(SharedLife { epoch, store: store.to_owned(), partitions, unseen: false }))
        };
        self.transaction(begin).await
    }
}

/// Keeps what a landing must know of rows that go.
pub(super) async fn note_forgotten(c: &mut SqliteConnection, forget: &Forget) -> Result<(), sqlx::Error> {
    let Some(greatest) = forget.greatest_id() else { return Ok(()) };
    sqlx::query(
        "UPDATE counter SET value = CASE name WHEN 'forgets' THEN value + 1 ELSE max(value, ?) END \
         WHERE name IN ('forgets', 'forgotten')",
    )
    .bind(greatest.0.cast_signed())
    .execute(c)
    .await
    .map(drop)
}

/// Notes that the present life lacks something.
pub(super) async fn note_unseen(c: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE shared_life SET unseen = 1").execute(c).await.map(drop)
}

/// Lands, or tells why not.
async fn land(c: &mut SqliteConnection, landing: &Landing) -> Result<Option<&'static str>, sqlx::Error> {
    if let Some(alone) = landing.alone {
        if life(c).await?.map(|life| life.epoch) != Some(alone) {
            return Ok(Some(LIFE_CHANGED));
        }
        note_unseen(c).await?;
    }
    let rows: Vec<Row> = landing.deliveries.iter().map(|(d, _)| d.row).collect();
    let mut known = HashMap::with_capacity(rows.len());
    for (power, part) in parts(&rows) {
        let mut values = Values::default();
        part.iter().for_each(|row| _ = values.int(row.0));
        for row in sqlx::query_with(STATES.sql(power), values.finish()?).fetch_all(&mut *c).await? {
            let state = State::from_number(row.try_get(1)?);
            let state = state.ok_or_else(|| sqlx::Error::Decode("delivery with a bad state".into()))?;
            known.insert(Row(row.try_get(0)?), state);
        }
    }
    if rows.iter().any(|row| !known.contains_key(row)) {
        let forgotten = MessageId(counter(c, "forgotten").await?.cast_unsigned());
        let changed = counter(c, "forgets").await? != landing.forgets.cast_signed();
        if changed && landing.reaches_back_to(forgotten) {
            return Ok(Some(OUTDATED));
        }
    }
    execute(c, bulk::pieces(&landing.group(&known))?, false).await?;
    for r in &landing.reservations {
        commit::land_reservation(c, r).await?;
    }
    Ok(None)
}

async fn counter(c: &mut SqliteConnection, name: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT value FROM counter WHERE name = ?").bind(name).fetch_one(c).await
}

async fn life(c: &mut SqliteConnection) -> Result<Option<SharedLife>, sqlx::Error> {
    let Some(row) = sqlx::query(LIFE).fetch_optional(c).await? else { return Ok(None) };
    Ok(Some(SharedLife {
        epoch: Epoch(unsigned(&row, 0)?),
        store: row.try_get(1)?,
        partitions: row.try_get(2)?,
        unseen: row.try_get(3)?,
    }))
}
