//! Single keys changed from the command line.

use service::ExitError;
use toml::{Table, Value};

/// One `key=value`.
#[derive(Debug, PartialEq)]
pub(super) struct Edit {
    keys: Vec<String>,
    /// None: the key is removed.
    value: Option<Value>,
}

/// The edits, if that is what the words are; `None` if they are one file.
pub(super) fn edits(words: &[String]) -> Result<Option<Vec<Edit>>, ExitError> {
    match words {
        [] => Ok(None),
        [file] if !file.contains('=') => Ok(None),
        all => all.iter().map(|word| Edit::parse(word)).collect::<Result<_, _>>().map(Some),
    }
}

impl Edit {
    fn parse(word: &str) -> Result<Self, ExitError> {
        let wrong = || ExitError::usage(format!("{word:?} is no key=value"));
        let (key, value) = word.split_once('=').ok_or_else(wrong)?;
        let keys: Vec<_> = key.trim().split('.').map(str::to_owned).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if keys.iter().any(|key| key.is_empty() || !key.chars().all(plain)) {
            return Err(wrong());
        }
        let value = value.trim();
        // What is TOML (numbers, lists, quoted strings) is taken so; anything else is a string.
        let typed = || format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        let value = (!value.is_empty()).then(|| typed().unwrap_or_else(|| Value::String(value.to_owned())));
        Ok(Self { keys, value })
    }

    /// Changes the table.
    pub(super) fn apply(self, table: &mut Table) -> Result<(), ExitError> {
        let name = self.keys.join(".");
        let mut keys = self.keys.into_iter().peekable();
        let mut at = table;
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                match self.value {
                    Some(value) => drop(at.insert(key, value)),
                    None if at.remove(&key).is_none() => {
                        return Err(ExitError::usage(format!("{name} is not set")));
                    }
                    None => {}
                }
                return Ok(());
            }
            let below = at.entry(key).or_insert_with(|| Value::Table(Table::new()));
            at = below.as_table_mut().ok_or_else(|| {
                ExitError::usage(format!("{name}: what is above it is a value and no table"))
            })?;
        }
        Ok(())
    }
}

/// Lays a table over another, key by key.
pub(super) fn lay(mut base: Table, over: Table) -> Table {
    for (key, value) in over {
        let value = match (base.remove(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(lay(below, above)),
            (_, value) => value,
        };
        base.insert(key, value);
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(table: &str, words: &[&str]) -> Result<String, String> {
        let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
        let mut table: Table = table.parse().unwrap();
        for edit in edits(&words).map_err(|e| e.to_string())?.unwrap() {
            edit.apply(&mut table).map_err(|e| e.to_string())?;
        }
        Ok(toml::to_string(&table).unwrap())
    }

    #[test]
    fn keys_are_set_and_removed() {
        assert_eq!(applied("", &["max_loads=8", "name=x y"]).unwrap(), "max_loads = 8\nname = \"x y\"\n");
        assert_eq!(applied("a = 1\nb = 2", &["a="]).unwrap(), "b = 2\n");
        assert_eq!(
            applied("[redis]\nx = 1", &["redis.nodes=[\"a\"]"]).unwrap(),
            "[redis]\nnodes = [\"a\"]\nx = 1\n"
        );
        assert_eq!(applied("", &["s=\"8\""]).unwrap(), "s = \"8\"\n");
        assert_eq!(applied("", &["t=30s"]).unwrap(), "t = \"30s\"\n");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(applied("", &["a="]).unwrap_err(), "a is not set");
        assert_eq!(applied("", &["a=1", "b"]).unwrap_err(), "\"b\" is no key=value");
        assert_eq!(applied("", &["a..b=1"]).unwrap_err(), "\"a..b=1\" is no key=value");
        assert!(applied("a = 1", &["a.b=1"]).unwrap_err().starts_with("a.b: "));
        assert_eq!(edits(&["saver.toml".to_owned()]).unwrap(), None);
    }

    #[test]
    fn tables_are_laid_key_by_key() {
        let (base, over) = ("a = 1\n[t]\nx = 1\ny = 1", "b = 2\n[t]\ny = 2");
        let all = lay(base.parse().unwrap(), over.parse().unwrap());
        assert_eq!(all, "a = 1\nb = 2\n[t]\nx = 1\ny = 2".parse().unwrap());
    }
}
