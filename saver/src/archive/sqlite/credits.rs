//! Counts what becomes of broadcasts.

use std::collections::HashSet;

use sqlx::SqliteConnection;
use wire::id::{AppId, MessageId};

use super::{
    SqliteArchive, broadcasts, bulk,
    commit::signed,
    deliveries::unsigned,
    error::classify,
    statement::{Shape, Values, execute, parts},
};
use crate::{
    archive::{ArchiveResult, Counts, Passed, credits::Tally},
    model::InboxKey,
};

static COUNTS: Shape = Shape::new(
    "SELECT c.id, c.app, c.acked, c.expired, c.recalled, c.dropped, \
     coalesce((SELECT sum(p.sent) FROM broadcast_part p WHERE p.id = c.id), 0) FROM broadcast_count c WHERE c.id IN (",
    "?",
    ")",
);
const ADD: &str = "UPDATE broadcast_count SET acked = acked + ?, expired = expired + ?, recalled = recalled + ?, \
     dropped = dropped + ? WHERE id = ? AND app = ?";

/// Moves cursors, and counts what they pass.
pub(super) async fn pass(c: &mut SqliteConnection, passed: &[Passed]) -> Result<(), sqlx::Error> {
    if passed.is_empty() {
        return Ok(());
    }
    let mut once = HashSet::new();
    let keys: Vec<InboxKey> =
        passed.iter().map(|p| p.key.clone()).filter(|k| once.insert(k.clone())).collect();
    let kept = broadcasts::cursors(c, &keys).await?;
    let tally = Tally::of(passed, keys.into_iter().zip(kept).filter_map(|(key, kept)| Some((key, kept?))));
    for ((id, app), counts) in &tally.counts {
        let mut query = sqlx::query(ADD);
        for count in counts {
            query = query.bind(count.cast_signed());
        }
        query.bind(signed(*id)).bind(app.0).execute(&mut *c).await?;
    }
    execute(c, bulk::cursors(&tally.cursors)?, false).await.map(drop)
}

impl SqliteArchive {
    pub(super) async fn read_counts(
        &self,
        app: AppId,
        ids: &[MessageId],
    ) -> ArchiveResult<Vec<Option<Counts>>> {
        let mut c = self.reader().await?;
        counts(&mut c, app, ids).await.map_err(classify)
    }
}

async fn counts(
    c: &mut SqliteConnection,
    app: AppId,
    ids: &[MessageId],
) -> Result<Vec<Option<Counts>>, sqlx::Error> {
    let mut found = std::collections::HashMap::with_capacity(ids.len());
    for (power, part) in parts(ids) {
        let mut values = Values::default();
        part.iter().for_each(|id| _ = values.uint(id.0));
        for row in sqlx::query_with(COUNTS.sql(power), values.finish()?).fetch_all(&mut *c).await? {
            if unsigned(&row, 1)? == u64::from(app.0) {
                let counts = Counts {
                    acked: unsigned(&row, 2)?,
                    expired: unsigned(&row, 3)?,
                    recalled: unsigned(&row, 4)?,
                    dropped: unsigned(&row, 5)?,
                    sent: unsigned(&row, 6)?,
                };
                found.insert(MessageId(unsigned(&row, 0)?), counts);
            }
        }
    }
    Ok(ids.iter().map(|id| found.get(id).copied()).collect())
}
