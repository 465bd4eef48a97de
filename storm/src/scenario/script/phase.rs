//! One phase: when, and what.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{Expect, Kind, ScriptError};

/// A phase of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// What it is called; the kind, if the file gives no name.
    pub name: String,
    /// When it begins and ends.
    pub when: When,
    /// What it does.
    pub kind: Kind,
    /// What is expected of it alone.
    pub expect: Expect,
}

/// When a phase begins and ends. Without any of these it begins when the one before it in the file has ended, and ends
/// when its work is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Begins when the phase of this name has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Begins when the phase of this name does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// Begins so long after the run.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub start: Option<Duration>,
    /// Begins so much later than the above say.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// Lasts so long.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Lasts until the phase of this name has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Keys that every phase may have.
const WHEN: [&str; 6] = ["after", "with", "start", "delay", "duration", "until"];

/// All phases of a file.
pub(super) fn all(value: Option<Value>) -> Result<Vec<Phase>, ScriptError> {
    let tables = match value {
        None => Vec::new(),
        Some(Value::Array(tables)) => tables,
        Some(_) => return Err(ScriptError::new("phase: phases are written [[phase]]")),
    };
    if tables.is_empty() {
        return Err(ScriptError::new("there is no [[phase]]"));
    }
    let mut phases: Vec<Phase> = Vec::with_capacity(tables.len());
    for (index, value) in tables.into_iter().enumerate() {
        let Value::Table(table) = value else {
            return Err(ScriptError::new("phase: phases are written [[phase]]"));
        };
        phases.push(one(index, table, &phases)?);
    }
    Ok(phases)
}

fn one(index: usize, mut table: Table, before: &[Phase]) -> Result<Phase, ScriptError> {
    let named = take_word(&mut table, "name", index)?;
    let kind = take_word(&mut table, "kind", index)?;
    let place = match (&named, &kind) {
        (Some(name), _) => format!("phase `{name}`"),
        (None, Some(kind)) => format!("phase {index} ({kind})"),
        (None, None) => format!("phase {index}"),
    };
    let words = Kind::WORDS.join(", ");
    let kind = kind.ok_or_else(|| ScriptError::new(format!("{place}: `kind` is missing: one of {words}")))?;
    let mut when = Table::new();
    for key in WHEN {
        when.extend(table.remove(key).map(|value| (key.to_owned(), value)));
    }
    let when = When::deserialize(when).map_err(|error| ScriptError::typed(&place, &error))?;
    let expect = match table.remove("expect") {
        None => Expect::default(),
        Some(value) => Expect::deserialize(value)
            .map_err(|error| ScriptError::typed(&format!("{place}, expect"), &error))?,
    };
    refuse_unknown(&kind, &table, &place)?;
    let kind = match Kind::from_table(&kind, table) {
        None => {
            let error = ScriptError::unknown(&place, &kind, Kind::WORDS).to_string();
            return Err(ScriptError::new(error.replace("unknown key", "unknown kind")));
        }
        Some(kind) => kind.map_err(|error| ScriptError::typed(&place, &error))?,
    };
    let name = named.unwrap_or_else(|| free_name(kind.word(), before));
    if before.iter().any(|phase| phase.name == name) {
        return Err(ScriptError::new(format!("{place}: there is another phase of this name")));
    }
    sound(&place, &when, &kind)?;
    Ok(Phase { name, when, kind, expect })
}

/// Names what nobody knows, with the keys of all phases among the suggestions.
fn refuse_unknown(kind: &str, table: &Table, place: &str) -> Result<(), ScriptError> {
    // An empty table has every default, so what it is written as names all keys that have a value; the rest is serde's.
    let Some(Err(error)) = Kind::from_table(kind, table.clone()) else { return Ok(()) };
    let said = error.to_string();
    let Some(key) = said.split_once("unknown field `").and_then(|(_, rest)| rest.split('`').next()) else {
        return Ok(());
    };
    let mut known: Vec<&str> = said.split('`').skip(3).step_by(2).collect();
    known.extend(WHEN);
    known.extend(["name", "expect"]);
    Err(ScriptError::unknown(place, key, &known))
}

fn take_word(table: &mut Table, key: &str, index: usize) -> Result<Option<String>, ScriptError> {
    match table.remove(key) {
        None => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(_) => Err(ScriptError::new(format!("phase {index}: `{key}` must be a string"))),
    }
}

fn free_name(word: &str, before: &[Phase]) -> String {
    let taken = |name: &str| before.iter().any(|phase| phase.name == name);
    let numbered = (2..).map(|n| format!("{word}-{n}"));
    std::iter::once(word.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// What the types do not say.
fn sound(place: &str, when: &When, kind: &Kind) -> Result<(), ScriptError> {
    let wrong = |what: &str| Err(ScriptError::new(format!("{place}: {what}")));
    let begins = [when.after.is_some(), when.with.is_some(), when.start.is_some()];
    if begins.into_iter().filter(|set| *set).count() > 1 {
        return wrong("only one of `after`, `with` and `start`");
    }
    if when.duration.is_some() && when.until.is_some() {
        return wrong("only one of `duration` and `until`");
    }
    if kind.needs_end() && when.duration.is_none() && when.until.is_none() {
        return wrong("it needs a `duration`, or a phase `until` whose end it lasts");
    }
    let positive = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate.is_finite());
    match kind {
        Kind::Ramp(ramp) if !positive(ramp.rate) => wrong("`rate` must be more than 0"),
        Kind::Unicast(unicast) if !positive(unicast.rate) => wrong("`rate` must be more than 0"),
        Kind::Churn(churn) if !(churn.share > 0.0 && churn.share <= 1.0) => {
            wrong("`share` is a share of the connections each second, more than 0 and at most 1")
        }
        Kind::Slow(slow) if !(slow.share > 0.0 && slow.share <= 1.0) => {
            wrong("`share` is a share of the devices, more than 0 and at most 1")
        }
        Kind::Broadcast(broadcast) if broadcast.every.is_some_and(|every| every.is_zero()) => {
            wrong("`every` must be more than 0")
        }
        Kind::Drain(drain) => {
            let ways = [drain.pid.is_some(), drain.program.is_some(), drain.rpc.is_some()];
            let proof = [drain.rpc_ca.is_some(), drain.rpc_cert.is_some(), drain.rpc_key.is_some()];
            match (ways.into_iter().filter(|set| *set).count(), proof) {
                (1, [false, false, false]) => Ok(()),
                (1, [true, true, true]) if drain.rpc.is_some() => Ok(()),
                (1, _) => wrong("`rpc_ca`, `rpc_cert` and `rpc_key` go together, with `rpc`"),
                _ => wrong("exactly one of `pid`, `program` and `rpc` says which room"),
            }
        }
        Kind::Execute(execute) if execute.command.is_empty() => wrong("`command` is empty"),
        _ => Ok(()),
    }
}

impl Phase {
    pub(super) fn to_table(&self) -> Table {
        let mut table = Table::new();
        table.insert("name".into(), self.name.clone().into());
        table.insert("kind".into(), self.kind.word().into());
        table.extend(Table::try_from(&self.when).unwrap_or_default());
        table.extend(self.kind.to_table());
        let expect = Table::try_from(&self.expect).unwrap_or_default();
        if !expect.is_empty() {
            table.insert("expect".into(), Value::Table(expect));
        }
        table
    }
}
