//! Scenarios as TOML files: what `storm run` is told.

mod checks;
mod explain;
mod kinds;
mod phase;
mod set;

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::options::{Api, Devices};
use crate::fleet::LineOptions;

pub use checks::Expect;
pub use explain::ScriptError;
pub use kinds::{Broadcast, Churn, Drain, Execute, Floor, Hold, Kind, Ramp, Slow, Unicast};
pub use phase::{Phase, When};

/// A scenario: who connects where, what happens when, and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// What it is called.
    pub name: String,
    /// What it is for, in a sentence or two.
    pub description: String,
    /// The devices.
    pub fleet: Devices,
    /// The centers.
    pub api: Api,
    /// How the run itself goes.
    pub run: RunTable,
    /// What is expected of the whole run.
    pub expect: Expect,
    /// What happens, in the order of the file.
    pub phases: Vec<Phase>,
}

/// `[run]`: how the run itself goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunTable {
    /// How often everything is measured for the plots. Default 1 s; a run of an hour makes 3,600 points of each.
    #[serde(with = "humantime_serde")]
    pub sample: std::time::Duration,
    /// How long to wait at the end, at most, for what was accepted and has not arrived. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub settle: std::time::Duration,
}

impl Default for RunTable {
    fn default() -> Self {
        Self { sample: std::time::Duration::from_secs(1), settle: std::time::Duration::from_secs(30) }
    }
}

/// The top level of a file.
const SECTIONS: [&str; 8] = ["name", "description", "fleet", "line", "api", "run", "expect", "phase"];

impl Script {
    /// Reads a file, and lays `key=value` settings over it.
    ///
    /// # Errors
    /// If the file cannot be read, or says something that a scenario cannot.
    pub fn load(path: &Path, settings: &[String]) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut script = Self::parse(&text, settings).with_context(|| format!("in {}", path.display()))?;
        if script.name.is_empty() {
            script.name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
        }
        Ok(script)
    }

    /// Parses a text, and lays `key=value` settings over it.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn parse(text: &str, settings: &[String]) -> Result<Self, ScriptError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| ScriptError::text(&error))?;
        underscores(&mut table);
        for setting in settings {
            set::apply(&mut table, setting)?;
        }
        if let Some(unknown) = table.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
            return Err(ScriptError::unknown("", unknown, &SECTIONS));
        }
        let mut fleet: Devices = section(&mut table, "fleet")?;
        fleet.line = section::<LineOptions>(&mut table, "line")?;
        let script = Self {
            name: section(&mut table, "name")?,
            description: section(&mut table, "description")?,
            fleet,
            api: section(&mut table, "api")?,
            run: section(&mut table, "run")?,
            expect: section(&mut table, "expect")?,
            phases: phase::all(table.remove("phase"))?,
        };
        super::run::Schedule::new(&script.phases)?;
        Ok(script)
    }

    /// The scenario as a file again, every setting written out but those without a value. Secrets are left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut table = Table::new();
        table.insert("name".into(), self.name.clone().into());
        table.insert("description".into(), self.description.clone().into());
        let fleet = Devices { secret: None, ..self.fleet.clone() };
        let api = Api { key: None, ..self.api.clone() };
        put(&mut table, "fleet", &fleet);
        put(&mut table, "line", &self.fleet.line);
        put(&mut table, "api", &api);
        put(&mut table, "run", &self.run);
        put(&mut table, "expect", &self.expect);
        let phases = self.phases.iter().map(|one| Value::Table(one.to_table())).collect();
        table.insert("phase".into(), Value::Array(phases));
        toml::to_string_pretty(&table).unwrap_or_else(|error| format!("# not printable: {error}\n"))
    }
}

/// A section, or its defaults.
fn section<T: serde::de::DeserializeOwned + Default>(
    table: &mut Table,
    name: &str,
) -> Result<T, ScriptError> {
    match table.remove(name) {
        None => Ok(T::default()),
        Some(value) => T::deserialize(value).map_err(|error| ScriptError::typed(name, &error)),
    }
}

fn put(table: &mut Table, name: &str, value: &impl Serialize) {
    if let Ok(Value::Table(section)) = Value::try_from(value)
        && !section.is_empty()
    {
        table.insert(name.into(), Value::Table(section));
    }
}

/// Keys may be written as the flags are, with dashes.
fn underscores(table: &mut Table) {
    for (key, mut value) in std::mem::take(table) {
        match &mut value {
            Value::Table(inner) => underscores(inner),
            Value::Array(all) => {
                all.iter_mut().filter_map(Value::as_table_mut).for_each(underscores);
            }
            _ => {}
        }
        table.insert(key.replace('-', "_"), value);
    }
}

#[cfg(test)]
mod tests;
