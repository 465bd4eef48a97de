//! Statements over many rows.
//!
//! Their sizes are powers of two, so that every count of rows is served by ten statements, which stay prepared; and
//! they are bounded in bytes, because a server takes packets of a limited size.

use std::sync::{Arc, OnceLock};

use sqlx::{
    Arguments as _, AssertSqlSafe, MySqlConnection,
    error::BoxDynError,
    mysql::{MySqlArguments, MySqlRow},
};

/// Sizes up to 512 rows: a round trip and its overhead are then under a tenth of the rows' own work, and a prepared
/// statement costs the server at most about a megabyte.
const SIZES: usize = 10;
/// Payload in one statement, in bytes: a quarter of the smallest packet size that is accepted. One row may be larger.
const MOST_BYTES: usize = 1 << 20;

/// A statement of so many rows: `head row,row… tail`.
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

    /// Executes it with values. Answers how many rows it changed.
    pub(super) async fn execute(
        &self,
        c: &mut MySqlConnection,
        power: usize,
        values: Values,
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(self.sql(power), values.finish()?);
        Ok(query.execute(c).await?.rows_affected())
    }

    /// Executes it for all items. `bind` gets each of them.
    pub(super) async fn execute_all<T>(
        &self,
        c: &mut MySqlConnection,
        items: &[T],
        weigh: impl Fn(&T) -> usize,
        bind: impl Fn(&mut Values, &T),
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for (power, part) in parts(items, weigh) {
            let mut values = Values::default();
            part.iter().for_each(|item| bind(&mut values, item));
            changed += self.execute(c, power, values).await?;
        }
        Ok(changed)
    }

    /// Executes a statement with `IN (…)` over all numbers, with `first` before them.
    pub(super) async fn execute_in(
        &self,
        c: &mut MySqlConnection,
        first: Option<i64>,
        numbers: &[i64],
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for part in in_parts(numbers) {
            let mut values = Values::default();
            first.into_iter().for_each(|n| _ = values.int(n));
            let power = values.list(part);
            changed += self.execute(c, power, values).await?;
        }
        Ok(changed)
    }

    /// Reads with values.
    pub(super) async fn fetch(
        &self,
        c: &mut MySqlConnection,
        power: usize,
        values: Values,
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        sqlx::query_with(self.sql(power), values.finish()?).fetch_all(c).await
    }

    /// Reads with `IN (…)` over all numbers.
    pub(super) async fn fetch_in(
        &self,
        c: &mut MySqlConnection,
        numbers: &[i64],
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(numbers.len());
        for part in in_parts(numbers) {
            let mut values = Values::default();
            let power = values.list(part);
            found.extend(self.fetch(c, power, values).await?);
        }
        Ok(found)
    }
}

/// Cuts a list into parts whose lengths are powers of two, and whose weights in bytes are bounded.
pub(super) fn parts<'a, T>(
    mut items: &'a [T],
    weigh: impl Fn(&T) -> usize + 'a,
) -> impl Iterator<Item = (usize, &'a [T])> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = items.iter().take(1 << (SIZES - 1)).take_while(|item| {
            bytes += weigh(item);
            bytes <= MOST_BYTES
        });
        let fitting = fits.count().max(usize::from(!items.is_empty()));
        let power = fitting.checked_ilog2()? as usize;
        let (part, rest) = items.split_at(1 << power);
        items = rest;
        Some((power, part))
    })
}

/// Cuts a list for statements with `IN (…)`.
pub(super) fn in_parts<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(1 << (SIZES - 1))
}

/// Values of a statement. An error is kept and told at the end: encoding numbers and bytes has none.
#[derive(Default)]
pub(super) struct Values {
    arguments: MySqlArguments,
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

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.keep(|a| a.add(value))
    }

    pub(super) fn bytes_or_null(&mut self, value: Option<&[u8]>) -> &mut Self {
        self.keep(|a| a.add(value))
    }

    /// A list that `IN (…)` takes, filled up with its last item, which changes nothing, to the next power of two,
    /// which is the answer.
    pub(super) fn list(&mut self, numbers: &[i64]) -> usize {
        self.list_of(numbers, |v, n| _ = v.int(*n))
    }

    /// Like [`Values::list`], of anything.
    pub(super) fn list_of<T>(&mut self, items: &[T], bind: impl Fn(&mut Self, &T)) -> usize {
        let power = items.len().next_power_of_two().ilog2() as usize;
        let filling = items.last().into_iter().cycle().take((1 << power) - items.len());
        items.iter().chain(filling).for_each(|item| bind(self, item));
        power
    }

    pub(super) fn finish(self) -> Result<MySqlArguments, sqlx::Error> {
        match self.error {
            None => Ok(self.arguments),
            Some(e) => Err(sqlx::Error::Encode(e)),
        }
    }

    fn keep(&mut self, add: impl FnOnce(&mut MySqlArguments) -> Result<(), BoxDynError>) -> &mut Self {
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
            for weight in [0, MOST_BYTES / 5, MOST_BYTES * 2] {
                let mut seen = Vec::new();
                for (power, part) in parts(&items, |_| weight) {
                    assert_eq!(part.len(), 1 << power);
                    assert!(part.len() * weight <= MOST_BYTES || part.len() == 1);
                    seen.extend_from_slice(part);
                }
                assert_eq!(seen, items);
            }
        }
    }

    #[test]
    fn lists_are_filled_up() {
        for (n, power) in [(1, 0), (2, 1), (3, 2), (512, 9)] {
            let mut values = Values::default();
            assert_eq!(values.list(&vec![7; n]), power);
            assert_eq!(values.finish().unwrap().len(), 1 << power);
        }
    }
}
