//! Follows the configuration that the cluster keeps for a node, and takes what can be taken while the service runs.

use cluster::{ConfigReport, Refused, etcd::ConfigTexts};
use serde_json::{Map, Value};
use tracing::{info, warn};

use crate::{Service, StartError, layers::Layers};

/// The configuration of a running service, and what the cluster wants it to be.
pub(crate) struct Live {
    layers: Layers,
    /// What runs now.
    running: Value,
    report: ConfigReport,
}

impl Live {
    /// The configuration to start with. A text that is wrong is left out, and that is reported: a node that does not
    /// start because of it would help nobody.
    pub(crate) fn start<S: Service>(
        layers: Layers,
        texts: &ConfigTexts,
    ) -> Result<(Self, S::Config), StartError> {
        let none = ConfigTexts::default();
        let only_default = ConfigTexts { default: texts.default.clone(), ..ConfigTexts::default() };
        let only_own = ConfigTexts { own: texts.own.clone(), ..ConfigTexts::default() };
        let mut refused = None;
        for tried in [texts, &only_default, &only_own, &none] {
            match layers.read::<S>(tried) {
                Ok(config) => {
                    let last = [&tried.default, &tried.own].into_iter().flatten().map(|text| text.revision);
                    let revision = if refused.is_none() { texts.revision } else { last.max().unwrap_or(0) };
                    if let Some(Refused { reason, .. }) = &refused {
                        warn!(reason, "the cluster's configuration is wrong; starting without that part");
                    }
                    let report = ConfigReport { revision, refused, restart: Vec::new() };
                    let running = serde_json::to_value(&config).map_err(StartError::other)?;
                    return Ok((Self { layers, running, report }, config));
                }
                Err(error) => {
                    let reason = error.to_string();
                    refused.get_or_insert(Refused { revision: texts.revision, reason });
                }
            }
        }
        // Without any text it is the file that is wrong.
        Err(StartError::other(refused.map(|refused| refused.reason).unwrap_or_default()))
    }

    /// What to tell the cluster.
    pub(crate) fn report(&self) -> ConfigReport {
        self.report.clone()
    }

    /// Takes new texts. Answers the configuration to apply, if something can be.
    pub(crate) fn take<S: Service>(&mut self, texts: &ConfigTexts) -> Option<S::Config> {
        match self.judge::<S>(texts) {
            Ok((apply, restart)) => {
                info!(
                    revision = texts.revision,
                    live = apply.is_some(),
                    ?restart,
                    "the cluster's configuration"
                );
                self.report = ConfigReport { revision: texts.revision, refused: None, restart };
                let (running, config) = apply?;
                self.running = running;
                Some(config)
            }
            Err(error) => {
                let reason = error.to_string();
                warn!(
                    revision = texts.revision,
                    reason, "the cluster's configuration is refused; the old one stays"
                );
                self.report.refused = Some(Refused { revision: texts.revision, reason });
                None
            }
        }
    }

    /// What would run then, if that differs, and the keys whose new value waits for a restart.
    #[expect(clippy::type_complexity, reason = "named nowhere else")]
    fn judge<S: Service>(
        &self,
        texts: &ConfigTexts,
    ) -> Result<(Option<(Value, S::Config)>, Vec<String>), StartError> {
        let wanted = serde_json::to_value(self.layers.read::<S>(texts)?).map_err(StartError::other)?;
        let changed = differences(&self.running, &wanted);
        let (live, mut restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| is_live::<S>(key));
        if live.is_empty() {
            return Ok((None, restart));
        }
        let mut running = self.running.clone();
        for key in &live {
            let words: Vec<_> = key.split('.').collect();
            set(&mut running, &words, get(&wanted, &words).cloned());
        }
        // Only what runs already and what is new and live: the two might not go together without the rest.
        let config = serde_json::from_value::<S::Config>(running.clone()).map_err(StartError::other);
        match config.and_then(|config| S::check(&config).map(|()| config)) {
            Ok(config) => Ok((Some((running, config)), restart)),
            Err(_) => {
                restart.extend(live);
                restart.sort();
                Ok((None, restart))
            }
        }
    }
}

fn is_live<S: Service>(key: &str) -> bool {
    let below =
        |live: &str| key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    S::LIVE.iter().any(|live| below(live))
}

/// Dotted keys of all values that differ.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    fn walk(path: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<String>) {
        match (a, b) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let mut keys: Vec<_> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
                keys.sort();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, a.get(key), b.get(key), found);
                }
            }
            (a, b) if a != b => found.push(path.to_owned()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", Some(a), Some(b), &mut found);
    found
}

fn get<'a>(at: &'a Value, words: &[&str]) -> Option<&'a Value> {
    words.iter().try_fold(at, |at, word| at.get(word))
}

fn set(at: &mut Value, words: &[&str], value: Option<Value>) {
    let (Value::Object(table), [word, rest @ ..]) = (at, words) else { return };
    match (rest, value) {
        ([], Some(value)) => {
            table.insert((*word).to_owned(), value);
        }
        ([], None) => {
            table.remove(*word);
        }
        (rest, value) => {
            set(table.entry(*word).or_insert_with(|| Value::Object(Map::new())), rest, value);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{sync::Mutex, time::Duration};

    use cluster::etcd::ConfigText;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Host, Starting};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct Settings {
        pub(crate) name: String,
        pub(crate) workers: u32,
        pub(crate) note: Option<String>,
        pub(crate) limits: Limits,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct Limits {
        pub(crate) frame: u64,
        pub(crate) rate: u32,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { name: "a".to_owned(), workers: 1, note: None, limits: Limits::default() }
        }
    }

    /// A service that does nothing but to keep what it was given while it ran.
    pub(crate) struct Sample;

    pub(crate) static APPLIED: Mutex<Vec<Settings>> = Mutex::new(Vec::new());

    impl Service for Sample {
        const ROLE: cluster::Role = cluster::Role::Saver;
        const LIVE: &'static [&'static str] = &["limits", "note"];
        type Config = Settings;

        fn check(config: &Settings) -> Result<(), StartError> {
            if config.workers == 0 {
                return Err(StartError::config("saver.workers", "must be at least 1"));
            }
            if config.limits.rate > 10 * config.workers {
                return Err(StartError::config("saver.limits.rate", "is more than the workers can do"));
            }
            Ok(())
        }

        fn start(_: Settings, _: Host) -> Starting<Self> {
            Box::pin(async { Ok(Sample) })
        }

        fn rpc(&self) -> tonic::service::Routes {
            tonic::service::Routes::default()
        }

        fn apply(&self, config: Settings) {
            APPLIED.lock().unwrap().push(config);
        }

        async fn drain(self, _: Duration) {}
    }

    pub(crate) fn texts(default: Option<&str>, own: Option<&str>) -> ConfigTexts {
        let text = |text: &str, revision| ConfigText { text: text.to_owned(), revision };
        ConfigTexts { revision: 9, default: default.map(|t| text(t, 7)), own: own.map(|t| text(t, 9)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{Sample, texts},
        *,
    };
    use crate::config::Config;

    fn start(texts: &ConfigTexts) -> (Live, <Sample as Service>::Config) {
        let mut file = Config::parse("[saver]\nworkers = 2\n", "x.toml", []).unwrap();
        Live::start::<Sample>(Layers::take::<Sample>(&mut file), texts).unwrap()
    }

    #[test]
    fn what_is_live_is_applied_and_the_rest_waits() {
        let (mut live, config) = start(&texts(None, Some("limits.rate = 3")));
        assert_eq!((config.workers, config.limits.rate, live.report().revision), (2, 3, 9));
        let new =
            ConfigTexts { revision: 11, ..texts(None, Some("limits.rate = 4\nname = \"b\"\nnote = \"n\"")) };
        let applied = live.take::<Sample>(&new).unwrap();
        assert_eq!((applied.name.as_str(), applied.limits.rate), ("a", 4));
        assert_eq!(applied.note.as_deref(), Some("n"));
        let report = live.report();
        assert_eq!((report.revision, report.refused, report.restart), (11, None, vec!["name".to_owned()]));
        // Taken back: nothing waits any more.
        let applied = live.take::<Sample>(&ConfigTexts { revision: 12, default: None, own: None }).unwrap();
        assert_eq!((applied.limits.rate, applied.note), (0, None));
        assert_eq!(live.report(), ConfigReport { revision: 12, ..ConfigReport::default() });
        assert!(live.take::<Sample>(&ConfigTexts { revision: 13, default: None, own: None }).is_none());
    }

    #[test]
    fn what_is_wrong_is_refused_and_the_old_stays() {
        let (mut live, _) = start(&texts(Some("limits.rate = 3"), None));
        let wrong = ConfigTexts { revision: 11, ..texts(Some("limits.rate = \"x\""), None) };
        assert!(live.take::<Sample>(&wrong).is_none());
        let report = live.report();
        assert_eq!(report.revision, 9);
        let refused = report.refused.unwrap();
        assert_eq!(refused.revision, 11);
        assert!(refused.reason.contains("saver.limits.rate: "), "{}", refused.reason);
        // What comes next is compared with what runs, not with what was refused.
        let next = ConfigTexts { revision: 12, ..texts(Some("limits.rate = 5"), None) };
        assert_eq!(live.take::<Sample>(&next).unwrap().limits.rate, 5);
        assert_eq!(live.report().refused, None);
    }

    #[test]
    fn live_values_that_need_the_others_wait_with_them() {
        let (mut live, _) = start(&texts(None, None));
        let new = ConfigTexts { revision: 11, ..texts(None, Some("workers = 9\nlimits.rate = 80")) };
        assert!(live.take::<Sample>(&new).is_none());
        assert_eq!(live.report().restart, ["limits.rate", "workers"]);
    }

    #[test]
    fn a_wrong_part_is_left_out_at_the_start() {
        let (live, config) = start(&texts(Some("limits.rate = 3"), Some("limits.rate = 99")));
        assert_eq!(config.limits.rate, 3);
        assert_eq!((live.report().revision, live.report().refused.unwrap().revision), (7, 9));
        let (_, config) = start(&texts(Some("["), Some("limits.rate = 4")));
        assert_eq!(config.limits.rate, 4);
        let (live, config) = start(&texts(Some("["), Some("[")));
        assert_eq!((config.limits.rate, live.report().revision), (0, 0));
    }
}
