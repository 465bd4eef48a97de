//! The part of a group that comes in thousands of rows: payloads, deliveries, final states and cursors.

use wire::id::Cursor;

use super::statement::{Piece, Shape, Values};
use crate::{
    archive::{Body, Group, NewDelivery},
    model::{InboxKey, Row, State},
};

const BODY: (&str, &str, &str) =
    ("INSERT INTO message (id, payload) VALUES", "(?,?)", "ON CONFLICT DO NOTHING");
const DELIVERY: (&str, &str, &str) = (
    "INSERT INTO delivery (id, message, app, uid, seq, epoch, state, accepted, expires, bytes, collapse) VALUES",
    "(?,?,?,?,?,?,0,?,?,?,?)",
    "",
);
const FREE: (&str, &str, &str) = ("DELETE FROM message WHERE id IN (", "?", ")");

static BODIES: Shape = Shape::new(BODY.0, BODY.1, BODY.2);
static DELIVERIES: Shape = Shape::new(DELIVERY.0, DELIVERY.1, DELIVERY.2);
static UNICASTS: Shape = Shape::pair(BODY, DELIVERY);
static CURSORS: Shape = Shape::new(
    "INSERT INTO cursor (app, uid, epoch, bseq) VALUES",
    "(?,?,?,?)",
    "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, bseq = excluded.bseq \
     WHERE (excluded.epoch, excluded.bseq) > (cursor.epoch, cursor.bseq)",
);
static OFFSETS: Shape = Shape::new(
    "INSERT INTO utc_offset (app, uid, minutes) VALUES",
    "(?,?,?)",
    "ON CONFLICT DO UPDATE SET minutes = excluded.minutes WHERE minutes != excluded.minutes",
);
static FREE_BODIES: Shape = Shape::new(FREE.0, FREE.1, FREE.2);
static FORGET_ROWS: Shape = Shape::new("DELETE FROM delivery WHERE state != 0 AND id IN (", "?", ")");

/// The statements that give deliveries a final state: alone, and with the payloads of unicasts.
macro_rules! finishing {
    ($state:literal) => {{
        const FINISH: (&str, &str, &str) =
            (concat!("UPDATE delivery SET state = ", $state, " WHERE state = 0 AND id IN ("), "?", ")");
        static ALONE: Shape = Shape::new(FINISH.0, FINISH.1, FINISH.2);
        static FREEING: Shape = Shape::pair(FINISH, FREE);
        (&ALONE, &FREEING)
    }};
}

fn finishing(state: State) -> Option<(&'static Shape, &'static Shape)> {
    match state {
        State::Stored => None,
        State::Acked => Some(finishing!(1)),
        State::Expired => Some(finishing!(2)),
        State::InboxFull => Some(finishing!(3)),
        State::MaxLoads => Some(finishing!(4)),
        State::Recalled => Some(finishing!(5)),
        State::Replaced => Some(finishing!(6)),
    }
}

/// The pieces that write this part of a group, in their order.
pub(super) fn pieces(group: &Group) -> Result<Vec<Piece>, sqlx::Error> {
    let mut out = Vec::new();
    let unicasts = group.bodies.len() == group.deliveries.len()
        && group.bodies.iter().zip(&group.deliveries).all(|(b, d)| Row::unicast(b.id) == d.row);
    if unicasts {
        let both: Vec<(&Body, &NewDelivery)> = group.bodies.iter().zip(&group.deliveries).collect();
        UNICASTS.pieces(&both, &mut out, |v, part| {
            part.iter().for_each(|(body, _)| bind_body(v, body));
            part.iter().for_each(|(_, delivery)| bind_delivery(v, delivery));
        })?;
    } else {
        BODIES.pieces(&group.bodies, &mut out, |v, part| part.iter().for_each(|b| bind_body(v, b)))?;
        let bind = |v: &mut Values, part: &[NewDelivery]| part.iter().for_each(|d| bind_delivery(v, d));
        DELIVERIES.pieces(&group.deliveries, &mut out, bind)?;
    }
    for state in State::FINAL {
        let rows = || group.finished.iter().filter(|(_, s)| *s == state).map(|(row, _)| *row);
        let Some((alone, freeing)) = finishing(state) else { continue };
        let (frees, keeps): (Vec<Row>, Vec<Row>) =
            rows().partition(|row| state.frees_payload() && !row.is_multicast());
        freeing.pieces_in(&frees, &mut out)?;
        alone.pieces_in(&keeps, &mut out)?;
    }
    out.extend(cursors(&group.cursors)?);
    OFFSETS.pieces(&group.offsets, &mut out, |v, part| {
        for (key, minutes) in part {
            v.int(key.app().0.into()).text(key.text()).int((*minutes).into());
        }
    })?;
    Ok(out)
}

/// The pieces that move cursors forward.
pub(super) fn cursors(list: &[(InboxKey, Cursor)]) -> Result<Vec<Piece>, sqlx::Error> {
    let mut out = Vec::new();
    CURSORS.pieces(list, &mut out, |v, part| {
        for (key, cursor) in part {
            v.int(key.app().0.into()).text(key.text()).uint(cursor.epoch.0).uint(cursor.bseq.0);
        }
    })?;
    Ok(out)
}

/// The pieces that forget deliveries to one user, and those that free the payloads of dead letters among them.
pub(super) fn forget(rows: &[Row]) -> Result<(Vec<Piece>, Vec<Piece>), sqlx::Error> {
    let (mut deliveries, mut payloads) = (Vec::new(), Vec::new());
    FORGET_ROWS.pieces_in(rows, &mut deliveries)?;
    FREE_BODIES.pieces_in(rows, &mut payloads)?;
    Ok((deliveries, payloads))
}

/// Whether a group has nothing but newcomers, and these are of one app.
pub(super) fn is_newcomers(group: &Group) -> bool {
    let mut apps = group.newcomers.iter().map(|newcomer| newcomer.key.app());
    let rows = group.bodies.len() + group.deliveries.len() + group.finished.len() + group.cursors.len();
    let one = apps.next().is_some_and(|first| apps.all(|app| app == first));
    one && rows == 0 && group.offsets.is_empty() && is_bulk(group)
}

/// Whether a group has nothing but what [`pieces`] writes.
pub(super) fn is_all(group: &Group) -> bool {
    group.newcomers.is_empty() && is_bulk(group)
}

fn is_bulk(group: &Group) -> bool {
    let Group {
        bodies: _,
        deliveries: _,
        finished: _,
        passed,
        cursors: _,
        offsets: _,
        scheduled,
        unscheduled,
        newcomers: _,
        reservations,
        broadcasts,
        broadcast_recalls,
        jobs,
        apps,
        keys,
        unseen,
        forget,
        now_ms: _,
    } = group;
    reservations.is_empty()
        && broadcasts.is_empty()
        && broadcast_recalls.is_empty()
        && passed.is_empty()
        && jobs.is_empty()
        && scheduled.is_empty()
        && unscheduled.is_empty()
        && apps.is_empty()
        && keys.is_empty()
        && !unseen
        && forget.is_empty()
}

fn bind_body(v: &mut Values, body: &Body) {
    v.uint(body.id.0).blob(&body.payload);
}

fn bind_delivery(v: &mut Values, d: &NewDelivery) {
    v.int(d.row.0);
    if d.row.is_multicast() {
        v.uint(d.id.0)
    } else {
        v.null()
    };
    v.int(d.key.app().0.into()).text(d.key.text());
    v.uint(d.position.seq.0).uint(d.position.epoch.0);
    v.uint(d.accepted_ms).uint(d.expires_ms).int(d.payload_bytes.into());
    match &d.collapse {
        Some(key) => v.text(key.clone()),
        None => v.null(),
    };
}
