//! The types of the roles' configurations, chosen by a word.

use center::Center;
use cluster::Role;
use coordinator::Coordinator;
use dispatcher::Dispatcher;
use register::Register;
use room::Room;
use saver::Saver;
use service::{ExitError, Service, StartError};
use toml::Table;

/// What is known of one role's configuration.
pub(super) struct Typed {
    check: fn(&str) -> Result<(), StartError>,
    effective: fn(Table) -> Result<Table, toml::de::Error>,
}

impl Typed {
    pub(super) fn of(role: Role) -> Self {
        match role {
            Role::Dispatcher => Self::new::<Dispatcher>(),
            Role::Room => Self::new::<Room>(),
            Role::Register => Self::new::<Register>(),
            Role::Coordinator => Self::new::<Coordinator>(),
            Role::Saver => Self::new::<Saver>(),
            Role::Center => Self::new::<Center>(),
        }
    }

    fn new<S: Service>() -> Self {
        Self { check: service::check_section::<S>, effective: effective::<S> }
    }

    /// Whether a node would take this text.
    pub(super) fn check(&self, text: &str) -> Result<(), StartError> {
        (self.check)(text)
    }

    /// All keys: the built-in defaults where the table has none.
    pub(super) fn effective(&self, table: Table) -> Result<Table, ExitError> {
        (self.effective)(table)
            .map_err(|e| ExitError::failure(e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

fn effective<S: Service>(table: Table) -> Result<Table, toml::de::Error> {
    let config: S::Config = table.try_into()?;
    Table::try_from(&config).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every role's defaults can be shown, and what is shown can be set.
    #[test]
    fn defaults_are_shown_as_they_are_read() {
        for role in Role::ALL {
            let typed = Typed::of(role);
            let all = typed.effective(Table::new()).unwrap();
            assert!(!all.is_empty(), "{role}");
            assert_eq!(typed.effective(all.clone()).unwrap(), all, "{role}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for role in Role::ALL {
            let error = Typed::of(role).check("no_such_key = 1").unwrap_err().to_string();
            assert!(error.contains("no_such_key"), "{error}");
        }
    }
}
