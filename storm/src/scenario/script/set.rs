//! `--set key=value`: a setting over what the file says.

use toml::{Table, Value};

use super::ScriptError;

/// Sets `path=value`. The value is read as TOML, and as a string if it is none. In a path, `phase.<name>` or
/// `phase.<number>` (from 0) is a phase.
pub(super) fn apply(table: &mut Table, setting: &str) -> Result<(), ScriptError> {
    let bad = || ScriptError::new(format!("--set {setting}: it is --set key=value, e.g. fleet.users=5000"));
    let (path, value) = setting.split_once('=').ok_or_else(bad)?;
    let path = path.trim().replace('-', "_");
    let keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(bad());
    }
    let value = read(value.trim());
    match keys.as_slice() {
        ["phase", which, rest @ ..] if !rest.is_empty() => {
            let names = phases(table);
            let number = which.parse().ok().filter(|n| *n < names.len());
            // Dashes in the names of phases stay what they are.
            let index = number.or_else(|| names.iter().position(|name| name.replace('-', "_") == *which));
            let phase =
                index.and_then(|at| table.get_mut("phase")?.as_array_mut()?.get_mut(at)?.as_table_mut());
            let Some(phase) = phase else {
                return Err(ScriptError::new(format!(
                    "--set {setting}: there is no phase `{which}`; there are {}",
                    names.join(", ")
                )));
            };
            put(phase, rest, value, setting)
        }
        keys => put(table, keys, value, setting),
    }
}

fn put(table: &mut Table, keys: &[&str], value: Value, setting: &str) -> Result<(), ScriptError> {
    match keys {
        [] => Ok(()),
        [last] => {
            table.insert((*last).to_owned(), value);
            Ok(())
        }
        [first, rest @ ..] => match table.entry(*first).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => put(inner, rest, value, setting),
            _ => Err(ScriptError::new(format!("--set {setting}: `{first}` holds no keys"))),
        },
    }
}

fn read(value: &str) -> Value {
    let parsed: Result<Table, _> = format!("value = {value}").parse();
    parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(value.to_owned()))
}

/// The phases' names, or their kinds where they have none.
fn phases(table: &Table) -> Vec<String> {
    let all = table.get("phase").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let word = |phase: &Value, key: &str| phase.get(key).and_then(Value::as_str).map(str::to_owned);
    all.iter().map(|phase| word(phase, "name").or_else(|| word(phase, "kind")).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        "[fleet]\nusers = 1\n[[phase]]\nkind = 'ramp'\n[[phase]]\nname = 'the-load'\nkind = 'unicast'\n"
            .parse()
            .unwrap()
    }

    #[test]
    fn values_are_toml_or_words() {
        let mut table = table();
        for setting in
            ["fleet.users=7", "fleet.rooms=[\"a:1\"]", "run.settle=5s", "phase.the-load.rate = 9.5"]
        {
            apply(&mut table, setting).unwrap();
        }
        assert_eq!(table["fleet"]["users"].as_integer(), Some(7));
        assert_eq!(table["fleet"]["rooms"][0].as_str(), Some("a:1"));
        assert_eq!(table["run"]["settle"].as_str(), Some("5s"));
        assert_eq!(table["phase"][1]["rate"].as_float(), Some(9.5));
        apply(&mut table, "phase.0.rate=5").unwrap();
        assert_eq!(table["phase"][0]["rate"].as_integer(), Some(5));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        let mut table = table();
        let said = |table: &mut Table, setting| apply(table, setting).unwrap_err().to_string();
        assert!(said(&mut table, "users").contains("key=value"));
        assert!(said(&mut table, "fleet..x=1").contains("key=value"));
        assert!(said(&mut table, "fleet.users.x=1").contains("`users` holds no keys"));
        assert!(said(&mut table, "phase.no.x=1").contains("there are ramp, the-load"));
    }
}
