//! First cursors: where users begin of whom none is kept.
//!
//! A cluster that everybody comes to for the first time writes nothing else, and nobody is bound before it is written. So
//! they share one statement, which carries its transaction where there is nothing besides.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection};
use wire::id::{AppId, Cursor};

use super::{
    broadcasts,
    commit::cursor,
    directory,
    statement::{Ends, Shape, filled},
};
use crate::{archive::Newcomer, model::InboxKey};

/// The second statement tells how many of the rows were new, and the head that they were given in the same transaction.
static FIRST: Shape = Shape::new(
    "WITH first (uid, epoch, bseq) AS (VALUES",
    "(?,?,?)",
    ") INSERT INTO cursor (app, uid, epoch, bseq) SELECT l.app, f.uid, l.epoch, \
     CASE WHEN f.epoch = l.epoch AND f.bseq <= l.head THEN f.bseq ELSE l.head END \
     FROM broadcast_log l CROSS JOIN first f WHERE l.app = ? AND f.uid IS NOT NULL ON CONFLICT DO NOTHING; \
     SELECT changes(), epoch, head FROM broadcast_log WHERE app = ?",
);
/// Users of one statement.
const STEP: usize = 512;

/// The users' cursors, in their order; a user without one gets one. Their logs are made if need be.
pub(super) async fn begin(c: &mut SqliteConnection, list: &[Newcomer]) -> Result<Vec<Cursor>, sqlx::Error> {
    let mut apps: BTreeMap<AppId, Vec<usize>> = BTreeMap::new();
    for (n, newcomer) in list.iter().enumerate() {
        apps.entry(newcomer.key.app()).or_default().push(n);
    }
    let mut cursors = vec![Cursor::default(); list.len()];
    for (app, places) in apps {
        for places in places.chunks(STEP) {
            let part: Vec<&Newcomer> = places.iter().map(|n| &list[*n]).collect();
            let mut begun = step(c, app, &part, Ends::default()).await?;
            if begun.is_none() {
                directory::ensure_log(c, app.0.into()).await?;
                begun = step(c, app, &part, Ends::default()).await?;
            }
            let begun = begun.ok_or(sqlx::Error::RowNotFound)?;
            places.iter().zip(begun).for_each(|(n, place)| cursors[*n] = place);
        }
    }
    Ok(cursors)
}

/// The same as a transaction of its own, for as many users of one app as one statement takes; `None` if they are more or the
/// app has no log.
pub(super) async fn begin_alone(
    c: &mut SqliteConnection,
    list: &[Newcomer],
) -> Result<Option<Vec<Cursor>>, sqlx::Error> {
    let Some(first) = list.first().filter(|_| list.len() <= STEP) else { return Ok(None) };
    let part: Vec<&Newcomer> = list.iter().collect();
    step(c, first.key.app(), &part, Ends { begins: true, commits: true }).await
}

/// One statement, with or without a transaction; `None` if the app has no log.
async fn step(
    c: &mut SqliteConnection,
    app: AppId,
    part: &[&Newcomer],
    ends: Ends,
) -> Result<Option<Vec<Cursor>>, sqlx::Error> {
    let rows = filled(part, 3, |values, _, newcomer| {
        values.text(newcomer.key.text());
        match newcomer.own {
            Some(own) => values.uint(own.epoch.0).uint(own.bseq.0),
            None => values.null().null(),
        };
    });
    let mut done = None;
    for (power, mut values) in rows {
        values.int(app.0.into()).int(app.0.into());
        let query = sqlx::query_with(FIRST.sql_with(power, ends), values.finish()?);
        done = query.fetch_all(&mut *c).await?.pop();
    }
    let Some(row) = done else { return Ok(None) };
    if usize::try_from(row.try_get::<i64, _>(0)?).is_ok_and(|new| new == part.len()) {
        let head = cursor(&row, 1)?;
        return Ok(Some(part.iter().map(|newcomer| newcomer.begins(head)).collect()));
    }
    // Some have one: of another saver, or because they are here twice. It may have moved since, and only forward.
    let keys: Vec<InboxKey> = part.iter().map(|newcomer| newcomer.key.clone()).collect();
    let kept = broadcasts::cursors(c, &keys).await?;
    Ok(Some(kept.into_iter().map(Option::unwrap_or_default).collect()))
}
