//! Reads configuration: a TOML file, then the environment on top, then typed sections. Unknown keys are refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::Path,
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::StartError;

/// A variable `LONGWIRE_ROOM__LISTEN` overrides `listen` in `[room]`.
pub const ENV_PREFIX: &str = "LONGWIRE_";
/// Between section and key, so that keys may contain single underscores.
const ENV_SEPARATOR: &str = "__";

/// What is wrong with the configuration, in one line: the key and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// File, variable or key.
    place: String,
    reason: String,
}

impl ConfigError {
    pub(crate) fn new(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { place: one_line(place), reason: one_line(reason) }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        StartError::Config { key: error.place, reason: error.reason }
    }
}

/// Parsers explain themselves over several lines, and a quoted key may hold some; the operator gets one.
fn one_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let lines = text.split(char::is_control).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Our variables among those of the process. The others may hold what they like.
fn ours(all: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, ConfigError> {
    let named = all.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::new(name, "its value is not UTF-8")),
        })
        .collect()
}

/// Configuration whose sections are taken out one by one.
#[derive(Debug)]
pub struct Config {
    table: Table,
    /// Keys that came from the environment, with the variable's name, for messages.
    variables: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    /// For messages: the file, if there is one.
    source: String,
}

impl Config {
    /// Reads `file` if there is one, and the environment.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML, or a variable names no section.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let env = ours(std::env::vars_os())?;
        let (text, source) = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| ConfigError::new(path.display(), e))?;
                (text, path.display().to_string())
            }
            None => (String::new(), "configuration".to_owned()),
        };
        Self::parse(&text, &source, env)
    }

    /// Parses a text and overrides, e.g. `("LONGWIRE_ROOM__LISTEN", "127.0.0.1:7")`. Variables without a section
    /// (`LONGWIRE_KEY`) belong to the command line and are passed over.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn parse(
        text: &str,
        source: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse().map_err(|e| ConfigError::new(source, e))?;
        let mut variables = BTreeMap::new();
        for (name, value) in env {
            let path = name.trim_start_matches(ENV_PREFIX).to_lowercase();
            let Some((section, key)) = path.split_once(ENV_SEPARATOR) else { continue };
            let keys: Vec<_> = key.split(ENV_SEPARATOR).collect();
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            set(section, &keys, &value).map_err(|reason| ConfigError::new(&name, reason))?;
            variables.insert(path.replace(ENV_SEPARATOR, "."), name);
        }
        Ok(Self { table, variables, taken: BTreeSet::new(), source: source.to_owned() })
    }

    /// Whether the section is there.
    pub fn has(&self, section: &str) -> bool {
        self.table.contains_key(section)
    }

    /// Takes a section; one that is not there is read as empty.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn section<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ConfigError> {
        let value = self.take(name);
        typed(name, value, |key| self.variables.get(key).unwrap_or(&self.source).clone())
    }

    /// Takes a section as it is, so that others can be laid over it.
    pub(crate) fn raw(&mut self, name: &str) -> Raw {
        let value = self.take(name);
        Raw { value, variables: self.variables.clone(), source: self.source.clone() }
    }

    fn take(&mut self, name: &str) -> Value {
        self.taken.insert(name.to_owned());
        self.table.remove(name).unwrap_or_else(|| Value::Table(Table::new()))
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// Names the first unknown section and the known ones.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(unknown) => {
                let known = self.taken.iter().map(|s| format!("[{s}]")).collect::<Vec<_>>().join(" ");
                Err(ConfigError::new(
                    self.source,
                    format!("unknown section or key `{unknown}`; known are {known}"),
                ))
            }
        }
    }
}

/// A section that has not been given its type.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) value: Value,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) source: String,
}

/// Gives a section its type. `place` tells where a key (`room.listen`) comes from.
pub(crate) fn typed<T: DeserializeOwned>(
    name: &str,
    value: Value,
    place: impl Fn(&str) -> String,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let key = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
        ConfigError::new(format!("{}: {key}", place(&key)), e.into_inner())
    })
}

/// Sets a key below a table. A value is read as TOML where it is TOML (numbers, lists, quoted strings) unless the
/// file has a string there; anything else is a string.
fn set(at: &mut Value, keys: &[&str], value: &str) -> Result<(), String> {
    let table = at.as_table_mut().ok_or("does not name a key: what is above it is no table")?;
    match keys {
        [] => Err("names no key".to_owned()),
        [key] => {
            let text = Value::String(value.to_owned());
            let typed = if matches!(table.get(*key), Some(Value::String(_))) {
                text
            } else {
                format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v")).unwrap_or(text)
            };
            table.insert((*key).to_owned(), typed);
            Ok(())
        }
        [key, rest @ ..] => set(table.entry(*key).or_insert_with(|| Value::Table(Table::new())), rest, value),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Room {
        listen: String,
        threads: u32,
        limits: Limits,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        frame: u32,
    }
    impl Default for Room {
        fn default() -> Self {
            Self { listen: "a".into(), threads: 1, limits: Limits::default() }
        }
    }

    fn parse(text: &str, env: &[(&str, &str)]) -> Config {
        Config::parse(text, "x.toml", env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
    }

    #[test]
    fn environment_wins_over_the_file() {
        let env = [
            ("LONGWIRE_ROOM__THREADS", "3"),
            ("LONGWIRE_ROOM__LISTEN", "127.0.0.1:7"),
            ("LONGWIRE_ROOM__LIMITS__FRAME", "9"),
            ("LONGWIRE_KEY", "x"),
        ];
        let mut c = parse("[room]\nthreads = 2\n", &env);
        let room: Room = c.section("room").unwrap();
        assert_eq!((room.threads, room.listen.as_str(), room.limits.frame), (3, "127.0.0.1:7", 9));
        c.finish().unwrap();
    }

    /// A number in a variable for a key that the file has as a string stays a string.
    #[test]
    fn strings_stay_strings() {
        let mut c = parse("[room]\nlisten = \"x\"\n", &[("LONGWIRE_ROOM__LISTEN", "7")]);
        assert_eq!(c.section::<Room>("room").unwrap().listen, "7");
    }

    #[test]
    fn errors_name_the_key() {
        let error = |text: &str| parse(text, &[]).section::<Room>("room").unwrap_err().to_string();
        assert!(error("[room]\nthreads = \"x\"").starts_with("x.toml: room.threads: "));
        assert!(
            error("[room]\nlimits.fram = 1").starts_with("x.toml: room.limits.fram: unknown field `fram`")
        );
        assert!(!error("[room]\nlimits.fram = 1").contains('\n'));
    }

    #[test]
    fn errors_name_the_variable() {
        let mut c = parse("", &[("LONGWIRE_ROOM__THREDS", "3")]);
        let error = c.section::<Room>("room").unwrap_err().to_string();
        assert!(error.starts_with("LONGWIRE_ROOM__THREDS: room.threds: unknown field `threds`"), "{error}");
    }

    /// One variable that is not UTF-8, whoever it belonged to, was a panic at the start of every program.
    #[cfg(unix)]
    #[test]
    fn variables_of_others_may_hold_anything() {
        use std::os::unix::ffi::OsStringExt as _;
        let bad = || OsString::from_vec(vec![0xff]);
        let own = (OsString::from("LONGWIRE_A__B"), OsString::from("1"));
        let all = vec![("LS_COLORS".into(), bad()), (bad(), bad()), own];
        assert_eq!(ours(all).unwrap(), [("LONGWIRE_A__B".to_owned(), "1".to_owned())]);
        let error = ours([("LONGWIRE_A__B".into(), bad())]).unwrap_err();
        assert_eq!(error.to_string(), "LONGWIRE_A__B: its value is not UTF-8");
    }

    #[test]
    fn a_key_of_several_lines_is_told_in_one() {
        let error = parse("[room]\n\"a\\nb\" = 1", &[]).section::<Room>("room").unwrap_err().to_string();
        assert!(error.starts_with("x.toml: room.a; b: unknown field"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn unknown_sections_are_refused() {
        let mut c = parse("[room]\n[rom]\n", &[]);
        c.section::<Room>("room").unwrap();
        assert_eq!(
            c.finish().unwrap_err().to_string(),
            "x.toml: unknown section or key `rom`; known are [room]"
        );
    }
}
