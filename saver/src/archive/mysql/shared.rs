//! Landing of journals, and lives of a shared inbox store.

use std::collections::{HashMap, HashSet};

use sqlx::{MySqlConnection, Row as _};
use wire::id::{Epoch, MessageId};

use super::{
    bulk::{self, Ledger, MULTICAST, Payloads, UNICAST},
    error::Failed,
    reservations,
    rows::{state, text, unsigned},
    statement::{Values, parts},
};
use crate::{
    archive::{
        ArchiveError, Body, Forget, Landing, NewDelivery, SharedLife,
        shared::{LIFE_CHANGED, OUTDATED},
    },
    model::{Row, State},
};

/// How a landing treats rows that may have been forgotten since its journal was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Looks once at the end: what is as old as what was forgotten is hardly ever landed.
    Glance,
    /// Locks clean-up out, and looks first.
    Lock,
}

/// Lands a part of a journal.
pub(super) async fn land(c: &mut MySqlConnection, landing: &Landing, care: Care) -> Result<(), Failed> {
    if let Some(life) = landing.alone {
        // Locked until the end: no other life begins before this is committed.
        let now: Option<i64> =
            sqlx::query_scalar("SELECT epoch FROM shared_life FOR UPDATE").fetch_optional(&mut *c).await?;
        if now != Some(life.0.cast_signed()) {
            return Err(Failed::Refused(ArchiveError::Conflict(LIFE_CHANGED.to_owned())));
        }
        note_unseen(c).await?;
    }
    if care == Care::Lock {
        let (forgets, forgotten) = forgotten(c, " FOR UPDATE").await?;
        let changed = forgets != landing.forgets;
        if changed && brings_back(c, landing, forgotten).await? {
            return Err(outdated());
        }
    }
    // What finished within this part of the journal is written once, as finished; the first that finished it counts.
    let mut ends: HashMap<Row, State> = HashMap::new();
    let named_so = landing.deliveries.iter().map(|(d, s)| (d.row, *s));
    for (row, state) in named_so.chain(landing.finished.iter().copied()) {
        if state != State::Stored {
            ends.entry(row).or_insert(state);
        }
    }
    let end = |d: &NewDelivery| ends.get(&d.row).copied().unwrap_or(State::Stored);
    let mut named = HashSet::with_capacity(landing.deliveries.len());
    let mut list: Vec<(&NewDelivery, State)> =
        landing.deliveries.iter().map(|(d, _)| (d, end(d))).filter(|(d, _)| named.insert(d.row)).collect();
    // In the order of rows: the tables grow at their ends, and two that land the same wait for each other.
    list.sort_unstable_by_key(|(d, _)| d.row);
    let (multicast, unicast) = list.split_at(list.partition_point(|(d, _)| d.row.is_multicast()));

    let payloads = Payloads::of(&landing.bodies);
    let mut landed = Landed::default();
    landed.ledger(c, &UNICAST, unicast).await?;
    landed.ledger(c, &MULTICAST, multicast).await?;
    bulk::insert_stored(c, &landed.stored, &payloads).await?;
    let bodies: Vec<&Body> = landed.bodies.iter().filter_map(|id| payloads.get(*id)).collect();
    bulk::insert_bodies(c, &bodies).await?;
    landed.finished.extend(landing.finished.iter().filter(|(row, _)| !named.contains(row)));
    bulk::finish(c, &landed.finished).await?;
    reservations::land(c, &landing.reservations).await?;

    if care == Care::Glance && landed.new {
        let (forgets, forgotten) = forgotten(c, "").await?;
        if forgets != landing.forgets && landing.reaches_back_to(forgotten) {
            return Err(outdated());
        }
    }
    Ok(())
}

/// What is left to do when the ledgers have their rows.
#[derive(Default)]
struct Landed<'a> {
    /// A row was not there before.
    new: bool,
    /// To be put into inboxes, unless they are there.
    stored: Vec<&'a NewDelivery>,
    /// Payloads that are not in an inbox's row.
    bodies: HashSet<MessageId>,
    /// What was stored before and is finished now.
    finished: Vec<(Row, State)>,
}

impl<'a> Landed<'a> {
    async fn ledger(
        &mut self,
        c: &mut MySqlConnection,
        ledger: &Ledger,
        list: &[(&'a NewDelivery, State)],
    ) -> Result<(), sqlx::Error> {
        for (power, part) in parts(list, bulk::weigh_row) {
            let mut values = Values::default();
            part.iter().for_each(|one| bulk::bind_ledger(&mut values, one));
            let new = ledger.insert_new.execute(c, power, values).await?;
            self.new |= new > 0;
            if new == part.len() as u64 {
                part.iter().for_each(|(d, state)| self.keep(d, *state));
                continue;
            }
            // Some are there. Their states count, which nobody changes until this transaction ends.
            let rows: Vec<i64> = part.iter().map(|(d, _)| d.row.0).collect();
            let mut known = HashMap::with_capacity(rows.len());
            for row in ledger.states.fetch_in(c, &rows).await? {
                known.insert(Row(row.try_get(0)?), state(&row, 1)?);
            }
            for (d, wanted) in part {
                let is = known.get(&d.row).copied().unwrap_or(*wanted);
                if is == State::Stored && *wanted != State::Stored {
                    self.finished.push((d.row, *wanted));
                } else if is == *wanted {
                    self.keep(d, is);
                }
            }
        }
        Ok(())
    }

    /// What a row needs beside it.
    fn keep(&mut self, d: &'a NewDelivery, state: State) {
        if state == State::Stored {
            self.stored.push(d);
        }
        if !state.frees_payload() && (d.row.is_multicast() || state != State::Stored) {
            self.bodies.insert(d.id);
        }
    }
}

fn outdated() -> Failed {
    Failed::Refused(ArchiveError::Conflict(OUTDATED.to_owned()))
}

/// Whether a delivery that is not there is as old as what was forgotten.
async fn brings_back(
    c: &mut MySqlConnection,
    landing: &Landing,
    forgotten: MessageId,
) -> Result<bool, sqlx::Error> {
    let mut old: Vec<i64> =
        landing.deliveries.iter().filter(|(d, _)| d.id <= forgotten).map(|(d, _)| d.row.0).collect();
    old.sort_unstable();
    old.dedup();
    let (multicast, unicast) = old.split_at(old.partition_point(|row| *row < 0));
    let there = UNICAST.states.fetch_in(c, unicast).await?.len()
        + MULTICAST.states.fetch_in(c, multicast).await?.len();
    Ok(there != old.len())
}

/// How often rows were forgotten, and the greatest message of them.
async fn forgotten(c: &mut MySqlConnection, lock: &'static str) -> Result<(u64, MessageId), sqlx::Error> {
    let sql = match lock {
        "" => "SELECT name, value FROM counter WHERE name IN ('forgets', 'forgotten')",
        _ => "SELECT name, value FROM counter WHERE name IN ('forgets', 'forgotten') FOR UPDATE",
    };
    let (mut forgets, mut greatest) = (0, MessageId(0));
    for row in sqlx::query(sql).fetch_all(c).await? {
        match text(&row, 0)?.as_str() {
            "forgets" => forgets = unsigned(&row, 1)?,
            _ => greatest = MessageId(unsigned(&row, 1)?),
        }
    }
    Ok((forgets, greatest))
}

pub(super) async fn forgets(c: &mut MySqlConnection) -> Result<u64, sqlx::Error> {
    let value: i64 =
        sqlx::query_scalar("SELECT value FROM counter WHERE name = 'forgets'").fetch_one(c).await?;
    Ok(value.cast_unsigned())
}

/// Keeps what a landing must know of rows that go.
pub(super) async fn note_forgotten(c: &mut MySqlConnection, forget: &Forget) -> Result<(), sqlx::Error> {
    let Some(greatest) = forget.greatest_id() else { return Ok(()) };
    sqlx::query("UPDATE counter SET value = value + 1 WHERE name = 'forgets'").execute(&mut *c).await?;
    sqlx::query("UPDATE counter SET value = GREATEST(value, ?) WHERE name = 'forgotten'")
        .bind(greatest.0.cast_signed())
        .execute(c)
        .await
        .map(drop)
}

/// Adds one to a counter. Its lock is held until the transaction ends.
pub(super) async fn count(c: &mut MySqlConnection, name: &'static str) -> Result<i64, sqlx::Error> {
    let sql = "UPDATE counter SET value = LAST_INSERT_ID(value + 1) WHERE name = ?";
    let done = sqlx::query(sql).bind(name.as_bytes()).execute(c).await?;
    if done.rows_affected() == 0 {
        return Err(sqlx::Error::Decode(format!("the counter {name} is missing").into()));
    }
    Ok(done.last_insert_id().cast_signed())
}

/// Notes that the present life lacks something.
pub(super) async fn note_unseen(c: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE shared_life SET unseen = 1 WHERE unseen = 0").execute(c).await.map(drop)
}

pub(super) async fn life(c: &mut MySqlConnection) -> Result<Option<SharedLife>, sqlx::Error> {
    let sql = "SELECT epoch, store, partitions, unseen FROM shared_life";
    let Some(row) = sqlx::query(sql).fetch_optional(c).await? else { return Ok(None) };
    Ok(Some(SharedLife {
        epoch: Epoch(unsigned(&row, 0)?),
        store: text(&row, 1)?,
        partitions: row.try_get(2)?,
        unseen: row.try_get::<u8, _>(3)? != 0,
    }))
}

/// Begins a life. The counter of epochs is the lock: it is there when no life is.
pub(super) async fn begin_life(
    c: &mut MySqlConnection,
    from: Option<Epoch>,
    store: &str,
    partitions: u32,
) -> Result<Option<SharedLife>, Failed> {
    let epoch = Epoch(count(c, "epoch").await?.cast_unsigned());
    if life(c).await?.map(|l| l.epoch) != from {
        // The number that was counted is lost with this, or skipped: it only has to grow.
        return Ok(None);
    }
    sqlx::query("REPLACE INTO shared_life (one, epoch, store, partitions, unseen) VALUES (1, ?, ?, ?, 0)")
        .bind(epoch.0.cast_signed())
        .bind(store.as_bytes())
        .bind(partitions)
        .execute(c)
        .await?;
    Ok(Some(SharedLife { epoch, store: store.to_owned(), partitions, unseen: false }))
}
