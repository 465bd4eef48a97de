//! Which values differ.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

/// A key whose value is not the same.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    key: String,
    from: Option<Value>,
    to: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "(not set)".to_owned(),
        };
        write!(f, "{}: {} -> {}", self.key, side(&self.from), side(&self.to))
    }
}

/// The keys, dotted and in order, that are not the same in both. Lists are values: they differ as a whole.
pub(super) fn differences(from: &Table, to: &Table) -> Vec<Difference> {
    let (mut from, to) = (flat(from), flat(to));
    let mut all: BTreeMap<String, Difference> = BTreeMap::new();
    for (key, to) in to {
        let before = from.remove(&key);
        if before.as_ref() != Some(&to) {
            all.insert(key.clone(), Difference { key, from: before, to: Some(to) });
        }
    }
    for (key, value) in from {
        all.insert(key.clone(), Difference { key, from: Some(value), to: None });
    }
    all.into_values().collect()
}

fn flat(table: &Table) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    walk("", table, &mut all);
    all
}

fn walk(prefix: &str, table: &Table, all: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(below) if !below.is_empty() => walk(&format!("{key}."), below, all),
            value => {
                all.insert(key, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: &str, to: &str) -> Vec<String> {
        let all = differences(&from.parse().unwrap(), &to.parse().unwrap());
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tells_what_changed_came_and_went() {
        let from = "same = 1\nchanged = 1\ngone = \"x\"\n[deep]\nsame = true\nchanged = [1, 2]\n";
        let to = "same = 1\nchanged = 2\nnew = 1.5\n[deep]\nsame = true\nchanged = [1]\n";
        assert_eq!(
            lines(from, to),
            [
                "changed: 1 -> 2",
                "deep.changed: [1, 2] -> [1]",
                "gone: \"x\" -> (not set)",
                "new: (not set) -> 1.5"
            ]
        );
        assert!(lines(from, from).is_empty());
    }

    #[test]
    fn a_table_in_the_place_of_a_value_is_all_its_keys() {
        assert_eq!(lines("a = 1", "a.b = 1"), ["a: 1 -> (not set)", "a.b: (not set) -> 1"]);
        assert_eq!(lines("", "[a]"), ["a: (not set) -> {}"]);
    }
}
