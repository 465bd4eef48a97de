//! Statements over many rows. A statement costs about 15 µs of its own (a hand-over to the connection's thread and
//! back); a row in one costs about 2 µs.

use std::sync::{Arc, OnceLock};

use crate::model::Row;
use sqlx::{Arguments as _, AssertSqlSafe, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments};

/// Sizes are powers of two up to 512, so that every count of rows is served by at most ten statements, and those
/// stay prepared. SQLite allows 32,766 values in a statement; ours have at most ten a row.
const SIZES: usize = 10;

/// A statement whose number of rows varies: `head (row),(row)… tail`.
pub(super) struct Shape {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    sql: [OnceLock<Arc<str>>; SIZES],
}

impl Shape {
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self { head, row, tail, sql: [const { OnceLock::new() }; SIZES] }
    }

    /// The statement for `1 << power` rows.
    pub(super) fn sql(&self, power: usize) -> AssertSqlSafe<Arc<str>> {
        let sql = self.sql[power].get_or_init(|| {
            let rows = vec![self.row; 1 << power].join(",");
            format!("{} {rows} {}", self.head, self.tail).into()
        });
        AssertSqlSafe(sql.clone())
    }

    /// Executes the statement over all items, in parts; counts the rows it changed.
    pub(super) async fn execute<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Values, &T),
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for (power, part) in parts(items) {
            let mut values = Values::default();
            part.iter().for_each(|item| bind(&mut values, item));
            let query = sqlx::query_with(self.sql(power), values.finish()?);
            changed += query.execute(&mut *connection).await?.rows_affected();
        }
        Ok(changed)
    }
}

impl Shape {
    /// Executes a statement with an `IN (…)` over all rows. The last part is filled up with its last row, which changes
    /// nothing, so that it is one statement and not one for each bit of its length.
    pub(super) async fn execute_in(
        &self,
        connection: &mut SqliteConnection,
        rows: &[Row],
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for part in rows.chunks(1 << (SIZES - 1)) {
            let power = part.len().next_power_of_two().ilog2() as usize;
            let filling = part.last().into_iter().cycle().take((1 << power) - part.len());
            let mut values = Values::default();
            part.iter().chain(filling).for_each(|row| _ = values.int(row.0));
            let query = sqlx::query_with(self.sql(power), values.finish()?);
            changed += query.execute(&mut *connection).await?.rows_affected();
        }
        Ok(changed)
    }
}

/// Cuts a list into parts whose lengths are powers of two.
pub(super) fn parts<T>(mut items: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    std::iter::from_fn(move || {
        let power = (items.len().checked_ilog2()? as usize).min(SIZES - 1);
        let (part, rest) = items.split_at(1 << power);
        items = rest;
        Some((power, part))
    })
}

/// Values of a statement. An error is kept and told at the end: encoding numbers and texts has none.
#[derive(Default)]
pub(super) struct Values {
    arguments: SqliteArguments,
    error: Option<BoxDynError>,
}

impl Values {
    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.keep(|a| a.add(value))
    }

    /// Times, numbers and ids stay below 2^63: they are checked where they come in.
    pub(super) fn uint(&mut self, value: u64) -> &mut Self {
        self.int(value.cast_signed())
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.keep(|a| a.add(None::<i64>))
    }

    pub(super) fn text(&mut self, value: Arc<str>) -> &mut Self {
        self.keep(|a| a.add(value))
    }

    pub(super) fn blob(&mut self, value: &[u8]) -> &mut Self {
        self.keep(|a| a.add(value.to_vec()))
    }

    pub(super) fn finish(self) -> Result<SqliteArguments, sqlx::Error> {
        match self.error {
            None => Ok(self.arguments),
            Some(e) => Err(sqlx::Error::Encode(e)),
        }
    }

    fn keep(&mut self, add: impl FnOnce(&mut SqliteArguments) -> Result<(), BoxDynError>) -> &mut Self {
        if let Err(e) = add(&mut self.arguments) {
            self.error.get_or_insert(e);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_in_order() {
        for n in [0, 1, 2, 3, 7, 511, 512, 513, 1300] {
            let items: Vec<usize> = (0..n).collect();
            let mut seen = Vec::new();
            for (power, part) in parts(&items) {
                assert_eq!(part.len(), 1 << power);
                seen.extend_from_slice(part);
            }
            assert_eq!(seen, items);
        }
    }

    #[test]
    fn sql_has_the_rows() {
        let shape = Shape::new("INSERT INTO t VALUES", "(?,?)", "ON CONFLICT DO NOTHING");
        assert_eq!(&*shape.sql(1).0, "INSERT INTO t VALUES (?,?),(?,?) ON CONFLICT DO NOTHING");
    }
}
