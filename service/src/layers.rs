//! What a node's own section holds when all is laid over one another: built-in defaults, the file, the environment, the
//! cluster's default for the role, the cluster's configuration for the node.

use cluster::etcd::{ConfigText, ConfigTexts};
use toml::{Table, Value};

use crate::{
    Service, StartError,
    config::{Config, ConfigError, Raw, typed},
};

/// The role's section of file and environment: what the cluster's configuration is laid over.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    role: &'static str,
    base: Raw,
}

/// A text of the cluster's, and how it is called in messages.
struct Layer {
    name: &'static str,
    table: Table,
}

impl Layers {
    /// Takes the role's section.
    pub(crate) fn take<S: Service>(config: &mut Config) -> Self {
        let role = S::ROLE.as_str();
        Self { role, base: config.raw(role) }
    }

    /// The configuration, and whether its values are good.
    ///
    /// # Errors
    /// Names the text, the key and what is wrong with it.
    pub(crate) fn read<S: Service>(&self, texts: &ConfigTexts) -> Result<S::Config, StartError> {
        let mut layers = Vec::new();
        for (name, text) in [("default", &texts.default), ("node", &texts.own)] {
            if let Some(ConfigText { text, .. }) = text {
                let table = text.parse().map_err(|e| ConfigError::new(self.place(name), e));
                layers.push(Layer { name, table: table.map_err(StartError::from)? });
            }
        }
        let mut value = self.base.value.clone();
        for layer in &layers {
            match &mut value {
                Value::Table(base) => lay(base, layer.table.clone()),
                // The file says `saver = 7`: its type's error tells that below.
                _ => break,
            }
        }
        let config = typed(self.role, value, |key| {
            let path = key.strip_prefix(self.role).unwrap_or_default().trim_start_matches('.');
            match layers.iter().rev().find(|layer| holds(&layer.table, path)) {
                Some(layer) => self.place(layer.name),
                None => self.base.variables.get(key).unwrap_or(&self.base.source).clone(),
            }
        });
        let config = config?;
        S::check(&config)?;
        Ok(config)
    }

    fn place(&self, name: &str) -> String {
        match name {
            "default" => format!("the cluster's configuration of every {}", self.role),
            _ => format!("the cluster's configuration of this {}", self.role),
        }
    }
}

/// Judges a text that is to be the cluster's configuration for nodes of a role: on top of the built-in defaults, because
/// nobody knows the nodes' files here.
///
/// # Errors
/// Names the key and what is wrong with it.
pub fn check_section<S: Service>(text: &str) -> Result<(), StartError> {
    let role = S::ROLE.as_str();
    let table: Table = text.parse().map_err(|e| ConfigError::new(role, e))?;
    let config: S::Config = typed(role, Value::Table(table), |_| "configuration".to_owned())?;
    S::check(&config)
}

/// Lays a table over another, key by key.
fn lay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Whether a table has a value at this path, or above it.
fn holds(table: &Table, path: &str) -> bool {
    let mut at = table;
    for word in path.split('.') {
        match at.get(word.split('[').next().unwrap_or(word)) {
            Some(Value::Table(below)) => at = below,
            Some(_) => return true,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::{Sample, texts};

    fn layers(file: &str, env: &[(&str, &str)]) -> Layers {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Layers::take::<Sample>(&mut Config::parse(file, "x.toml", env).unwrap())
    }

    #[test]
    fn the_cluster_wins_over_file_and_environment() {
        let layers = layers(
            "[saver]\nname = \"file\"\nworkers = 2\n[saver.limits]\nframe = 1\nrate = 2\n",
            &[("LONGWIRE_SAVER__WORKERS", "3")],
        );
        let own = layers.read::<Sample>(&texts(None, None)).unwrap();
        assert_eq!((own.name.as_str(), own.workers, own.limits.frame), ("file", 3, 1));
        let all = layers
            .read::<Sample>(&texts(Some("workers = 4\nlimits.frame = 5"), Some("limits.frame = 6")))
            .unwrap();
        assert_eq!((all.name.as_str(), all.workers), ("file", 4));
        assert_eq!((all.limits.frame, all.limits.rate), (6, 2));
    }

    #[test]
    fn errors_name_where_the_value_is_from() {
        let layers = layers("[saver]\nworkers = 2\n", &[]);
        let error = |default, own| layers.read::<Sample>(&texts(default, own)).unwrap_err().to_string();
        let every = "the cluster's configuration of every saver: ";
        let this = "the cluster's configuration of this saver: ";
        assert!(
            error(Some("workers = \"x\""), Some("limits.rate = 1"))
                .starts_with(&format!("{every}saver.workers: "))
        );
        assert!(
            error(Some("workers = 3"), Some("wrokers = 1"))
                .starts_with(&format!("{this}saver.wrokers: unknown"))
        );
        assert!(error(Some("= 3"), None).starts_with(every));
        assert!(error(None, Some("workers = 0")).starts_with("saver.workers: must be"));
        assert!(!error(Some("= 3"), None).contains('\n'));
    }

    #[test]
    fn a_text_is_judged_before_it_is_written() {
        check_section::<Sample>("workers = 7").unwrap();
        assert!(check_section::<Sample>("workers = 0").is_err());
        assert!(check_section::<Sample>("wrokers = 7").is_err());
        assert!(check_section::<Sample>("[").is_err());
    }
}
