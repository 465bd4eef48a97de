//! Columns as the rest of the program knows them.

use sqlx::{Row as _, mysql::MySqlRow};
use wire::id::{Bseq, Cursor, Epoch, MessageId, Position, Seq, Uid};

use crate::model::{CollapseKey, State};

pub(super) fn signed(id: MessageId) -> i64 {
    id.0.cast_signed()
}

pub(super) fn unsigned(row: &MySqlRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

pub(super) fn uid(row: &MySqlRow, column: usize) -> Result<Uid, sqlx::Error> {
    Uid::new(text(row, column)?).map_err(|_| broken("uid"))
}

pub(super) fn text(row: &MySqlRow, column: usize) -> Result<String, sqlx::Error> {
    String::from_utf8(row.try_get(column)?).map_err(|_| broken("text"))
}

pub(super) fn state(row: &MySqlRow, column: usize) -> Result<State, sqlx::Error> {
    State::from_number(row.try_get::<u8, _>(column)?.into()).ok_or_else(|| broken("state"))
}

pub(super) fn collapse(row: &MySqlRow, column: usize) -> Result<Option<CollapseKey>, sqlx::Error> {
    let key: Option<Vec<u8>> = row.try_get(column)?;
    let text = |key| std::str::from_utf8(key).map(CollapseKey::from).map_err(|_| broken("collapse key"));
    key.as_deref().map(text).transpose()
}

/// Number and epoch, in two columns from `first` on.
pub(super) fn place(row: &MySqlRow, first: usize) -> Result<Position, sqlx::Error> {
    Ok(Position { seq: Seq(unsigned(row, first)?), epoch: Epoch(unsigned(row, first + 1)?) })
}

/// A cursor in two columns from `first` on.
pub(super) fn cursor(row: &MySqlRow, first: usize) -> Result<Cursor, sqlx::Error> {
    Ok(Cursor { epoch: Epoch(unsigned(row, first)?), bseq: Bseq(unsigned(row, first + 1)?) })
}

fn broken(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a row with a bad {what}").into())
}
