//! Statements over many rows. Each execution costs about 40 µs of its own, a hand-over to the connection's thread and
//! back, where a row costs about 2 µs. So rows share statements, and statements that follow each other are executed
//! as one, with the transaction's begin and end.

use std::sync::{Arc, OnceLock};

use crate::model::Row;
use sqlx::{Arguments as _, AssertSqlSafe, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments};

/// Sizes are powers of two up to 512, so that every count of rows is served by at most ten statements, and those
/// stay prepared. SQLite allows 32,766 values in a statement; ours have at most twelve a row.
const SIZES: usize = 10;

/// A statement of so many rows: `head row,row… tail`.
struct Form {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
}

/// A statement whose number of rows varies, or two with the same number of rows that are executed as one.
pub(super) struct Shape {
    first: Form,
    second: Option<Form>,
    /// By power and [`Ends`].
    sql: [[OnceLock<Arc<str>>; 4]; SIZES],
}

/// What of a transaction a statement carries with it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// It begins here.
    pub(super) begins: bool,
    /// It ends here.
    pub(super) commits: bool,
}

/// A statement with its values, ready to be executed.
pub(super) struct Piece {
    shape: &'static Shape,
    power: usize,
    values: SqliteArguments,
}

impl Shape {
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self {
            first: Form { head, row, tail },
            second: None,
            sql: [const { [const { OnceLock::new() }; 4] }; SIZES],
        }
    }

    /// Two statements as one; each part's values come after the other's.
    pub(super) const fn pair(
        first: (&'static str, &'static str, &'static str),
        second: (&'static str, &'static str, &'static str),
    ) -> Self {
        Self {
            first: Form { head: first.0, row: first.1, tail: first.2 },
            second: Some(Form { head: second.0, row: second.1, tail: second.2 }),
            sql: [const { [const { OnceLock::new() }; 4] }; SIZES],
        }
    }

    /// The statement for `1 << power` rows.
    pub(super) fn sql(&self, power: usize) -> AssertSqlSafe<Arc<str>> {
        self.sql_with(power, Ends::default())
    }

    /// The same, with what it carries of a transaction.
    pub(super) fn sql_with(&self, power: usize, ends: Ends) -> AssertSqlSafe<Arc<str>> {
        let slot = usize::from(ends.begins) | usize::from(ends.commits) << 1;
        let sql = self.sql[power][slot].get_or_init(|| {
            let forms = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
            let written = forms.map(|form| {
                let rows = vec![form.row; 1 << power].join(",");
                format!("{} {rows} {}", form.head, form.tail)
            });
            let begin = ends.begins.then(|| "BEGIN IMMEDIATE".to_owned());
            let commit = ends.commits.then(|| "COMMIT".to_owned());
            begin.into_iter().chain(written).chain(commit).collect::<Vec<_>>().join("; ").into()
        });
        AssertSqlSafe(sql.clone())
    }

    /// Pieces for all items, cut into powers of two. `bind` gets each part as a whole.
    pub(super) fn pieces<T>(
        &'static self,
        items: &[T],
        out: &mut Vec<Piece>,
        bind: impl Fn(&mut Values, &[T]),
    ) -> Result<(), sqlx::Error> {
        for (power, part) in parts(items) {
            let mut values = Values::default();
            bind(&mut values, part);
            out.push(Piece { shape: self, power, values: values.finish()? });
        }
        Ok(())
    }

    /// Pieces of statements with an `IN (…)` over all rows, once for each of the shape's statements. The last part is
    /// filled up with its last row, which changes nothing, so that it is one piece and not one for each bit of its
    /// length.
    pub(super) fn pieces_in(&'static self, rows: &[Row], out: &mut Vec<Piece>) -> Result<(), sqlx::Error> {
        for part in rows.chunks(1 << (SIZES - 1)) {
            let power = part.len().next_power_of_two().ilog2() as usize;
            let mut values = Values::default();
            for _ in 0..1 + usize::from(self.second.is_some()) {
                let filling = part.last().into_iter().cycle().take((1 << power) - part.len());
                part.iter().chain(filling).for_each(|row| _ = values.int(row.0));
            }
            out.push(Piece { shape: self, power, values: values.finish()? });
        }
        Ok(())
    }
}

/// Executes pieces; `whole` makes them a transaction of their own. Counts the rows that they changed.
pub(super) async fn execute(
    connection: &mut SqliteConnection,
    pieces: Vec<Piece>,
    whole: bool,
) -> Result<u64, sqlx::Error> {
    let last = pieces.len().saturating_sub(1);
    let mut changed = 0;
    for (n, piece) in pieces.into_iter().enumerate() {
        let ends = Ends { begins: whole && n == 0, commits: whole && n == last };
        let query = sqlx::query_with(piece.shape.sql_with(piece.power, ends), piece.values);
        changed += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(changed)
}

/// Cuts a list for statements that look up each of their rows: into as few parts as can be, the last filled up with rows of
/// nulls, which match nothing and cost less than a statement for each bit of its length. `bind` gets each item with its place
/// in the list.
pub(super) fn filled<'a, T>(
    items: &'a [T],
    columns: usize,
    bind: impl Fn(&mut Values, usize, &T) + 'a,
) -> impl Iterator<Item = (usize, Values)> + 'a {
    const MOST: usize = 1 << (SIZES - 1);
    items.chunks(MOST).enumerate().map(move |(n, part)| {
        let power = part.len().next_power_of_two().ilog2() as usize;
        let mut values = Values::default();
        part.iter().enumerate().for_each(|(m, item)| bind(&mut values, n * MOST + m, item));
        (0..columns * ((1 << power) - part.len())).for_each(|_| _ = values.null());
        (power, values)
    })
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
    fn filled_parts_are_few() {
        for (n, powers) in [
            (0, vec![]),
            (1, vec![0]),
            (3, vec![2]),
            (512, vec![9]),
            (513, vec![9, 0]),
            (1300, vec![9, 9, 9]),
        ] {
            let items: Vec<usize> = (0..n).collect();
            let parts: Vec<_> = filled(&items, 2, |v, place, item| {
                assert_eq!(place, *item);
                v.int(0).int(0);
            })
            .map(|(power, values)| {
                assert_eq!(values.finish().unwrap().len(), 2 << power);
                power
            })
            .collect();
            assert_eq!(parts, powers, "{n}");
        }
    }

    #[test]
    fn sql_has_the_rows() {
        let shape = Shape::new("INSERT INTO t VALUES", "(?,?)", "ON CONFLICT DO NOTHING");
        assert_eq!(&*shape.sql(1).0, "INSERT INTO t VALUES (?,?),(?,?) ON CONFLICT DO NOTHING");
        let pair = Shape::pair(
            ("UPDATE t SET a = 1 WHERE b IN (", "?", ")"),
            ("DELETE FROM u WHERE b IN (", "?", ")"),
        );
        let sql = pair.sql_with(1, Ends { begins: true, commits: true }).0;
        let words = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "BEGIN IMMEDIATE; UPDATE t SET a = 1 WHERE b IN ( ?,? ); DELETE FROM u WHERE b IN ( ?,? ); COMMIT";
        assert_eq!(words, expected);
    }
}
