//! Idempotency keys.

use std::collections::{BTreeMap, HashMap};

use sqlx::{MySqlConnection, Row as _};
use wire::id::{AppId, MessageId};

use super::{
    rows::unsigned,
    statement::{Shape, Values, in_parts, parts},
};
use crate::archive::{Reservation, Reserved};

static KNOWN: Shape = Shape::new(
    "SELECT word, id, fingerprint FROM reservation FORCE INDEX (PRIMARY) WHERE app = ? AND expires > ? AND word IN (",
    "?",
    ")",
);
// A key that is over is tied anew. Assignments happen from left to right: `expires` comes last, being asked before.
static TIE: Shape = Shape::new(
    "INSERT INTO reservation (app, word, id, fingerprint, expires) VALUES",
    "(?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE id = IF(expires <= ?, VALUES(id), id), \
     fingerprint = IF(expires <= ?, VALUES(fingerprint), fingerprint), \
     expires = IF(expires <= ?, VALUES(expires), expires)",
);

// What a journal says of a key that another saver has landed, or that has been tied anew since, is not newer.
static LAND: Shape = Shape::new(
    "INSERT INTO reservation (app, word, id, fingerprint, expires) VALUES",
    "(?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE id = IF(expires < VALUES(expires), VALUES(id), id), \
     fingerprint = IF(expires < VALUES(expires), VALUES(fingerprint), fingerprint), \
     expires = GREATEST(expires, VALUES(expires))",
);
const UNTIL: &str = "SELECT expires FROM reservation ORDER BY expires DESC LIMIT 1";

/// Message and fingerprint, by app and key.
type Known = HashMap<(AppId, Vec<u8>), (MessageId, Vec<u8>)>;

/// Ties the keys that are new or over, and tells what all of them are tied to.
pub(super) async fn tie(
    c: &mut MySqlConnection,
    wanted: &[Reservation],
    now_ms: u64,
) -> Result<Vec<Reserved>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = read(c, wanted, now_ms.cast_signed()).await?;
    // In one order, so that two savers that tie the same keys wait for each other. The first of a group has it.
    let mut fresh: BTreeMap<(AppId, &[u8]), &Reservation> = BTreeMap::new();
    for r in wanted.iter().filter(|r| !known.contains_key(&name(r))) {
        fresh.entry((r.app, r.word.as_bytes())).or_insert(r);
    }
    let fresh: Vec<&Reservation> = fresh.into_values().collect();
    for (power, part) in parts(&fresh, |r| r.word.len()) {
        let mut values = rows(part);
        values.uint(now_ms).uint(now_ms).uint(now_ms);
        TIE.execute(c, power, values).await?;
    }
    // Another saver may have tied one meanwhile: what is there now is locked, and is the truth.
    let tied = read(c, &fresh, -1).await?;
    let mut taken: HashMap<(AppId, &[u8]), usize> = HashMap::new();
    let mut answers = Vec::with_capacity(wanted.len());
    for r in wanted {
        let before = known.get(&name(r));
        let again = taken.entry((r.app, r.word.as_bytes())).or_default();
        *again += 1;
        let (id, fingerprint) = before
            .or_else(|| tied.get(&name(r)))
            .ok_or_else(|| sqlx::Error::Protocol("a reservation is gone that was just made".to_owned()))?;
        let repeated = before.is_some() || *id != r.id || *again > 1;
        let mismatch = repeated && *fingerprint != r.fingerprint;
        answers.push(Reserved { id: *id, repeated, mismatch });
    }
    Ok(answers)
}

/// Lands what the shared store has tied.
pub(super) async fn land(c: &mut MySqlConnection, tied: &[Reservation]) -> Result<(), sqlx::Error> {
    // In one order, as above. A key that was tied twice is over in between: the later comes last, and stays.
    let mut tied: Vec<&Reservation> = tied.iter().collect();
    tied.sort_by_key(|r| (r.app, r.word.as_bytes(), r.expires_ms));
    for (power, part) in parts(&tied, |r| r.word.len()) {
        LAND.execute(c, power, rows(part)).await?;
    }
    Ok(())
}

/// When the last key ends.
pub(super) async fn until(c: &mut MySqlConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query(UNTIL).fetch_optional(c).await?;
    row.map_or(Ok(0), |row| unsigned(&row, 0))
}

fn rows(part: &[&Reservation]) -> Values {
    let mut values = Values::default();
    for r in part {
        values.int(r.app.0.into()).bytes(r.word.as_bytes()).uint(r.id.0).bytes(&r.fingerprint);
        values.uint(r.expires_ms);
    }
    values
}

/// Keys that are not over before `now`.
async fn read<R: std::borrow::Borrow<Reservation>>(
    c: &mut MySqlConnection,
    wanted: &[R],
    now: i64,
) -> Result<Known, sqlx::Error> {
    let mut by_app: BTreeMap<AppId, Vec<&[u8]>> = BTreeMap::new();
    for r in wanted {
        by_app.entry(r.borrow().app).or_default().push(r.borrow().word.as_bytes());
    }
    let mut known = Known::with_capacity(wanted.len());
    for (app, words) in by_app {
        for part in in_parts(&words) {
            let mut values = Values::default();
            values.int(app.0.into()).int(now);
            let power = values.list_of(part, |v, word| _ = v.bytes(word));
            for row in KNOWN.fetch(c, power, values).await? {
                let tied = (MessageId(unsigned(&row, 1)?), row.try_get(2)?);
                known.insert((app, row.try_get(0)?), tied);
            }
        }
    }
    Ok(known)
}

fn name(r: &Reservation) -> (AppId, Vec<u8>) {
    (r.app, r.word.as_bytes().to_vec())
}
